import { closeSync, constants, fstatSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { FileStamp } from './file-digest.ts';
import { isErrno, reason, ToolError } from './tool-error.ts';

/** Digests of files that were read before, by device and inode; good as long as size, mtime and ctime are the same. */
export type HashCache = {
  readonly find: (stamp: FileStamp, algorithm: string) => string | undefined;
  readonly keep: (stamp: FileStamp, algorithm: string, hex: string) => void;
  /** Writes what is known, if it changed. */
  readonly save: () => void;
};

const HEADER = 'keylime-policy cache 1';
const MAX_ENTRIES = 1_000_000;

/** A file that was changed so lately may be changed once more within the resolution of its times. */
const SETTLED_NS = 2_000_000_000n;

export const noCache: HashCache = { find: () => undefined, keep: () => {}, save: () => {} };

/**
 * Opens the cache in `file`; an absent file is an empty cache, and so is one that cannot be read as a cache. Who can write
 * the file decides what becomes allowed: it must be the user's own and writable by nobody else.
 * @throws ToolError `file_unreadable`, `file_unwritable`
 */
export function openHashCache(file: string, now: () => number = Date.now): HashCache {
  const entries = readEntries(file);
  let changed = false;
  const key = (stamp: FileStamp, algorithm: string) => `${stamp.dev}:${stamp.ino}:${algorithm}`;
  const state = ({ size, mtimeNs, ctimeNs }: FileStamp) => `${size}:${mtimeNs}:${ctimeNs}`;
  return {
    find(stamp, algorithm) {
      const [known, hex] = entries.get(key(stamp, algorithm))?.split(' ') ?? [];
      return known === state(stamp) ? hex : undefined;
    },
    keep(stamp, algorithm, hex) {
      if (BigInt(now()) * 1_000_000n - stamp.ctimeNs < SETTLED_NS) return;
      const name = key(stamp, algorithm);
      entries.delete(name);
      entries.set(name, `${state(stamp)} ${hex}`);
      changed = true;
    },
    save() {
      if (!changed) return;
      // A map keeps the order of insertion: what was learned first goes first.
      for (const name of entries.keys()) {
        if (entries.size <= MAX_ENTRIES) break;
        entries.delete(name);
      }
      const lines = [HEADER];
      for (const [name, value] of entries) lines.push(`${name} ${value}`);
      writePrivately(file, `${lines.join('\n')}\n`);
      changed = false;
    },
  };
}

function readEntries(file: string): Map<string, string> {
  const entries = new Map<string, string>();
  let text: string;
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
    text = readFileSync(fd, 'latin1');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return entries;
    if (error instanceof ToolError) throw error;
    throw new ToolError('file_unreadable', `Cannot read the cache ${file}: ${reason(error)}`, { cause: error });
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
  const [header, ...lines] = text.split('\n');
  if (header !== HEADER) return entries;
  for (const line of lines) {
    if (!/^\d+:\d+:\w+ \d+:\d+:\d+ [0-9a-f]+$/.test(line)) continue;
    const space = line.indexOf(' ');
    entries.set(line.slice(0, space), line.slice(space + 1));
  }
  return entries;
}

function writePrivately(file: string, text: string): void {
  const temporary = `${file}.${process.pid}`;
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    writeFileSync(temporary, text, { mode: 0o600, flag: 'wx' });
    renameSync(temporary, file);
  } catch (error) {
    throw new ToolError('file_unwritable', `Cannot write the cache ${file}: ${reason(error)}`, { cause: error });
  }
}
