import { readInput } from '../files.ts';
import { ToolError } from '../tool-error.ts';
import { type PeImage, parsePeImage } from './pe-image.ts';
import { readUnifiedKernel, type UnifiedKernel } from './unified-kernel.ts';

/** What `predict` is told about an update. Files are named by path. */
export type UpdateOptions = {
  readonly shim?: string;
  readonly bootLoader?: string;
  readonly kernel?: string;
  readonly kernelPath?: string;
  readonly initrd?: readonly string[];
  readonly initrdPath?: readonly string[];
  readonly cmdline?: string;
  readonly currentCmdline?: string;
  readonly grubFile?: readonly string[];
  readonly uki?: string;
  readonly profile?: number;
};

/** What will be installed; absent is what stays. */
export type KernelUpdate = {
  readonly shim: PeImage | undefined;
  readonly bootLoader: PeImage | undefined;
  readonly kernel: PeImage | undefined;
  /** Where GRUB will find the kernel, as in its commands. */
  readonly kernelPath: string | undefined;
  readonly initrds: readonly Buffer[];
  readonly initrdPaths: readonly string[];
  /** Without the path of the kernel. */
  readonly commandLine: string | undefined;
  /** The one of now, where the log has only its digest. */
  readonly currentCommandLine: string | undefined;
  /** Other files that GRUB reads, by their paths in the log. */
  readonly grubFiles: ReadonlyMap<string, Buffer>;
  readonly unifiedKernel: UnifiedKernel | undefined;
};

/** Options of which at least one must be there. */
const UPDATES = [
  'shim',
  'bootLoader',
  'kernel',
  'kernelPath',
  'initrd',
  'initrdPath',
  'cmdline',
  'grubFile',
  'uki',
] as const satisfies readonly (keyof UpdateOptions)[];

/** @throws ToolError `usage`, `file_unreadable`, `image_invalid` */
export async function readUpdate(options: UpdateOptions): Promise<KernelUpdate> {
  const { initrd = [], initrdPath = [], uki, cmdline } = options;
  if (UPDATES.every((name) => options[name] === undefined)) {
    throw new ToolError(
      'usage',
      'Name what will be installed: --kernel, --initrd, --cmdline, --uki, --shim or --boot-loader',
    );
  }
  if (uki !== undefined && (options.kernel !== undefined || initrd.length > 0)) {
    throw new ToolError(
      'usage',
      'A unified kernel image has its kernel and initrd in it: --uki is without --kernel and --initrd',
    );
  }
  const image = async (file: string | undefined): Promise<PeImage | undefined> =>
    file === undefined ? undefined : parsePeImage(await readInput(file, 'EFI image'), file);
  const unified = await image(uki);
  // /proc/cmdline of a kernel that GRUB started has the path of the kernel before the command line.
  const [, bootImage, rest] = /^BOOT_IMAGE=(\S+) ?(.*)$/s.exec(cmdline ?? '') ?? [];
  const grubFiles = await Promise.all((options.grubFile ?? []).map(readGrubFile));
  return {
    shim: await image(options.shim),
    bootLoader: await image(options.bootLoader),
    kernel: await image(options.kernel),
    kernelPath: options.kernelPath ?? bootImage,
    initrds: await Promise.all(initrd.map((file) => readInput(file, 'initrd'))),
    initrdPaths: initrdPath,
    commandLine: rest ?? cmdline,
    currentCommandLine: options.currentCmdline,
    grubFiles: new Map(grubFiles),
    unifiedKernel: unified && readUnifiedKernel(unified, uki ?? '', options.profile),
  };
}

async function readGrubFile(text: string): Promise<[string, Buffer]> {
  const [, path, file] = /^(.+?)=(.+)$/s.exec(text) ?? [];
  if (path === undefined || file === undefined) {
    throw new ToolError('usage', `--grub-file wants PATH=FILE, the path as GRUB has it and the file here, not ${text}`);
  }
  return [path, await readInput(file, 'file for GRUB')];
}
