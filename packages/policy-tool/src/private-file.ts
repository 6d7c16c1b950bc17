import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isErrno, reason, ToolError } from './tool-error.ts';

/**
 * The content of a file of a cache; `undefined` if it is not there. Who can write it decides what
 * becomes allowed: it must be the user's own and writable by nobody else.
 * @throws ToolError `file_unreadable`
 */
export function readPrivately(file: string): Buffer | undefined {
  let fd: number | undefined;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
    const { uid, mode } = fstatSync(fd);
    if (uid !== process.getuid?.() || (mode & 0o022) !== 0) {
      throw new ToolError(
        'file_unreadable',
        `The cache ${file} belongs to or can be written by somebody else, who could decide what becomes allowed: ` +
          'remove it, or name another with --cache',
      );
    }
    return readFileSync(fd);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return undefined;
    if (error instanceof ToolError) throw error;
    throw new ToolError('file_unreadable', `Cannot read the cache ${file}: ${reason(error)}`, { cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** Writes a file that `readPrivately` takes, whole or not at all. @throws ToolError `file_unwritable` */
export function writePrivately(file: string, text: string): void {
  const temporary = `${file}.${process.pid}`;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' });
    renameSync(temporary, file);
  } catch (error) {
    throw new ToolError('file_unwritable', `Cannot write the cache ${file}: ${reason(error)}`, { cause: error });
  }
}
