import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import path from 'node:path';
import type { Log } from '@keylime/service/log';
import { type Digested, digestFiles, type Workshop } from './digest-files.ts';
import { fileTree, SKIPPED_DIRECTORIES } from './file-tree.ts';
import { foreignMounts, parseMountinfo } from './mounts.ts';
import { reason, ToolError } from './tool-error.ts';

export type RootFileSystem = {
  readonly directory: string;
  /** More to leave out: paths from the root on, or paths of this system below the root. */
  readonly skipPaths: readonly string[];
  readonly anyOwner: boolean;
};

/**
 * Digests the files of a root file system as an IMA policy would measure them: regular files of root, without volatile
 * directories and file systems of other types.
 * @throws ToolError `not_found`, `worker_failed`
 */
export async function digestRootFileSystem(
  { directory, skipPaths, anyOwner }: RootFileSystem,
  workshop: Workshop,
  log: Log,
): Promise<readonly Digested[]> {
  const root = realDirectory(directory);
  const skip = new Set(SKIPPED_DIRECTORIES);
  for (const mount of foreignMounts(readMounts(), root)) skip.add(root === '/' ? mount : mount.slice(root.length));
  for (const skipPath of skipPaths) {
    const inside = insideRoot(root, skipPath);
    if (inside === undefined) log.warn(`--skip-path ${skipPath} names nothing below ${root}`);
    else skip.add(inside);
  }
  log.debug(`Leaving out ${[...skip].join(' ')}`);
  workshop.progress.start(`Digesting ${root}`);
  return await digestFiles(fileTree({ root, skip, anyOwner }, workshop.skipped), workshop);
}

export function realDirectory(directory: string): string {
  try {
    const real = realpathSync(directory);
    if (statSync(real).isDirectory()) return real;
  } catch (error) {
    throw new ToolError('not_found', `Cannot read the directory ${directory}: ${reason(error)}`, { cause: error });
  }
  throw new ToolError('not_found', `Invalid path, ${directory} is not a directory`);
}

function readMounts() {
  try {
    return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
  } catch (error) {
    throw new ToolError('file_unreadable', `Cannot read /proc/self/mountinfo: ${reason(error)}`, { cause: error });
  }
}

/** `skipPath` as a path from `root` on. */
function insideRoot(root: string, skipPath: string): string | undefined {
  const absolute = path.resolve(skipPath);
  if (root === '/') return absolute === '/' ? undefined : absolute;
  if (absolute.startsWith(`${root}/`)) return absolute.slice(root.length);
  return path.isAbsolute(skipPath) && absolute !== '/' && existsSync(root + absolute) ? absolute : undefined;
}
