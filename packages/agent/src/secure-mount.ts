import { execFile } from 'node:child_process';
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readFile, readlink, realpath, statfs } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { codeOf } from '@keylime/core/coded-error';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';

const execute = promisify(execFile);
/** Linux include/uapi/linux/magic.h */
const TMPFS_MAGIC = 0x01021994;

/** A line of /proc/self/mountinfo: where something is mounted, and what. Source: proc_pid_mountinfo(5). */
export type Mount = { readonly mountPoint: string; readonly fileSystem: string };

/** Mounts in the order of the file: of several at one point, or above one another, the last is what is seen. */
export function parseMountInfo(text: string): readonly Mount[] {
  return text.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ');
    const mountPoint = left.split(' ')[4];
    const fileSystem = right.split(' ')[0];
    if (mountPoint === undefined || fileSystem === undefined || fileSystem === '') return [];
    return [{ mountPoint: unescapeOctal(mountPoint), fileSystem }];
  });
}

/** Bytes that would not fit into a field, such as a blank, stand there as `\040`. */
const unescapeOctal = (field: string): string =>
  Buffer.from(
    field.replace(/\\([0-7]{3})/g, (_, digits) => String.fromCharCode(Number.parseInt(digits, 8))),
    'latin1',
  ).toString('utf8');

/**
 * What `folder` is: a mount point itself, or part of the file system that is mounted deepest above it. Of mounts that are
 * as deep the last one counts.
 */
export function mountOf(
  folder: string,
  mounts: readonly Mount[],
): (Mount & { readonly isMountPoint: boolean }) | undefined {
  const above = (mountPoint: string) =>
    mountPoint === '/' || folder === mountPoint || folder.startsWith(`${mountPoint}/`);
  let found: Mount | undefined;
  for (const mount of mounts) {
    if (above(mount.mountPoint) && mount.mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found && { ...found, isMountPoint: found.mountPoint === folder };
}

/** Where payloads are, below `keylime_dir`. */
export const secureFolderOf = async (keylimeDir: string): Promise<string> =>
  path.join(await realpath(keylimeDir), 'secure');

/**
 * The folder `secure` of `keylime_dir`, in memory, so that no secret of a payload reaches a disk [MUST]. A tmpfs that is
 * mounted there is used as it is; so is the folder if all of `keylime_dir` is on a tmpfs; otherwise root mounts one. It
 * belongs to the user of `run_as` and to nobody else (spec 07 section 8.2). Nobody unmounts it but the operator.
 * [MUST] `keylime_dir` is that user's too, who may change names in it at any moment: what root does is done to folders that
 * are held open, and what is held at the end must be the memory at that path.
 * @returns its path. @throws AgentError `secure_mount`
 */
export async function openSecureMount(options: {
  readonly keylimeDir: string;
  /** In the syntax of mount. */
  readonly size: string;
  readonly runAs: string;
  readonly isRoot: boolean;
  readonly log: Log;
  readonly readMounts?: () => Promise<string>;
}): Promise<string> {
  const { size, runAs, isRoot, log, readMounts = () => readFile('/proc/self/mountinfo', 'utf8') } = options;
  const folder = await secureFolderOf(options.keylimeDir);
  await makeFolder(folder, log);
  await using place = await holdFolder(folder);
  const mount = mountOf(folder, parseMountInfo(await readMounts()));
  if (mount?.fileSystem === 'tmpfs') {
    if (!mount.isMountPoint) {
      log.info('The folder of payloads is in memory already: secure_size has no effect', {
        path: folder,
        on: mount.mountPoint,
      });
    }
  } else if (mount?.isMountPoint) {
    throw new AgentError(
      'secure_mount',
      `Secure storage location ${folder} already mounted on wrong file system type: ${mount.fileSystem}. Unmount it: payloads are only ever kept in memory (tmpfs).`,
    );
  } else if (!isRoot) {
    throw new AgentError(
      'secure_mount',
      `${folder} is on a disk, and only root may mount memory there. As root: mount -t tmpfs -o size=${size},mode=0700,uid=$(id -u USER),gid=$(id -g USER) tmpfs ${folder}, with the agent's user; or put keylime_dir on a tmpfs, such as below /run or /dev/shm, to try things out.`,
    );
  } else {
    await mountMemory(place, folder, size, log);
  }
  await using secure = await holdFolder(folder);
  if ((await statfs(pathOf(secure))).type !== TMPFS_MAGIC) throw wasChanged(folder);
  if (isRoot && runAs !== '') await giveTo(runAs, secure);
  return folder;
}

async function makeFolder(folder: string, log: Log): Promise<void> {
  try {
    await mkdir(folder, { mode: 0o700 });
    log.info(`Directory "${folder}" created.`);
  } catch (cause) {
    if (codeOf(cause) === 'EEXIST') return;
    throw new AgentError('secure_mount', `${folder} cannot be made: ${String(cause)}`, { cause });
  }
}

/** [MUST] A link there, or on the way there, would let the owner of `keylime_dir` have root mount over any folder. */
async function holdFolder(folder: string): Promise<FileHandle> {
  let held: FileHandle;
  try {
    held = await open(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (cause) {
    const isOther = ['ENOTDIR', 'ELOOP'].includes(codeOf(cause) ?? '');
    throw new AgentError(
      'secure_mount',
      isOther
        ? `${folder} is no folder: remove it, so that memory can be mounted there.`
        : `${folder} cannot be opened: ${String(cause)}`,
      { cause },
    );
  }
  if ((await readlink(pathOf(held))) === folder) return held;
  await held.close();
  throw wasChanged(folder);
}

const wasChanged = (folder: string) =>
  new AgentError(
    'secure_mount',
    `${folder} was moved or replaced while memory was mounted there: no payload is safe. See who changes it, and what findmnt shows, then start again.`,
  );

/** Leads to what is held, for other processes too, whatever its name is now. */
const pathOf = ({ fd }: FileHandle): string => `/proc/${process.pid}/fd/${fd}`;

async function mountMemory(place: FileHandle, folder: string, size: string, log: Log): Promise<void> {
  const options = `size=${size},mode=0700,nosuid,nodev`;
  // -c: mount must not make a path of the folder again.
  const mount = (more: string) =>
    commandIn(place, 'mount', ['-c', '-t', 'tmpfs', '-o', `${options}${more}`, 'tmpfs', '.']);
  try {
    await mount(',noswap');
    log.info('Memory is mounted for payloads', { path: folder, size });
  } catch {
    // Linux before 6.4 does not know noswap.
    await mount('');
    log.info('Memory is mounted for payloads; it may be swapped out, so swap should be encrypted', {
      path: folder,
      size,
    });
  }
}

async function giveTo(runAs: string, secure: FileHandle): Promise<void> {
  try {
    await commandIn(secure, 'chown', [runAs, '.']);
  } catch (cause) {
    throw new AgentError(
      'privileges',
      `run_as = "${runAs}": ${cause instanceof Error ? cause.message : cause}. Create the user and group, name others, or set run_as = "" to stay root.`,
      { cause },
    );
  }
}

/** Runs a program in a folder that is held, which it names `.`. */
async function commandIn(folder: FileHandle, program: string, args: readonly string[]): Promise<void> {
  try {
    await execute(program, args, { cwd: pathOf(folder), timeout: 10_000 });
  } catch (cause) {
    const { stderr, message } = cause as Error & { readonly stderr?: string };
    throw new AgentError('secure_mount', `${program} ${args.join(' ')} failed: ${(stderr || message).trim()}`, {
      cause,
    });
  }
}
