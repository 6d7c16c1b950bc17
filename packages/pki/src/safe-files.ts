import { randomBytes } from 'node:crypto';
import { chmod, chown, link, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from '@keylime/core/coded-error';

/** Mode of a private key file: its owner alone. */
export const PRIVATE_FILE_MODE = 0o600;
/** Mode of a file that anybody may read. */
export const PUBLIC_FILE_MODE = 0o644;

/** Content of the file at `path`, or `undefined` if there is none; throws when it is there but cannot be read. */
export async function findFile(path: string): Promise<Buffer | undefined> {
  try {
    return await readFile(path);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** Makes the folder `dir`, and those above it, for its owner alone. A folder that exists keeps its mode. */
export async function makePrivateFolder(dir: string): Promise<void> {
  const first = await mkdir(dir, { recursive: true, mode: 0o700 });
  // The umask may have taken bits away, never added any; the owner needs all three.
  if (first !== undefined) await chmod(dir, 0o700);
}

/** Replaces the file at `path` in one step: a reader, or a crash, sees the whole old content or the whole new one. */
export async function replaceFile(path: string, content: string | Uint8Array, mode: number): Promise<void> {
  const temporary = await writeTemporary(path, content, mode);
  try {
    await rename(temporary, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** Makes the file at `path` complete in one step; `false` if there is already one, which is left as it is. */
export async function createFile(path: string, content: string | Uint8Array, mode: number): Promise<boolean> {
  const temporary = await writeTemporary(path, content, mode);
  try {
    // A link fails where the name is taken; a rename would replace the file of a program that was faster.
    await link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  } finally {
    await rm(temporary, { force: true });
  }
}

/** Makes a rename outlive a power failure. */
async function syncFolder(dir: string): Promise<void> {
  const folder = await open(dir, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

async function writeTemporary(path: string, content: string | Uint8Array, mode: number): Promise<string> {
  const temporary = `${path}.${randomBytes(8).toString('hex')}.tmp`;
  const file = await open(temporary, 'wx', mode);
  try {
    await file.writeFile(content);
    await file.chmod(mode);
    await file.sync();
  } finally {
    await file.close();
  }
  await keepOwnerOfFolder(temporary);
  return temporary;
}

/** Files that root makes in a service's folder belong to the service, which must read them when it starts next. */
async function keepOwnerOfFolder(path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { uid, gid } = await stat(dirname(path));
  if (uid !== 0) await chown(path, uid, gid);
}
