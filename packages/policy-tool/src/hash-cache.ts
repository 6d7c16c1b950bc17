import { statSync } from 'node:fs';
import { type FileStamp, sameStamp, stampOf } from './file-digest.ts';
import { readPrivately, writePrivately } from './private-file.ts';

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

/**
 * The digest of a whole file, if it is known; `keep` takes the one of what was read since, if the file is still the same.
 * What cannot be looked at is not known: whoever reads it will say why.
 */
export function cachedDigest(
  cache: HashCache,
  file: string,
  algorithm: string,
): { readonly known: string | undefined; readonly keep: (hex: string) => void } {
  const look = () => {
    const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
    return stat && stampOf(stat);
  };
  const before = look();
  return {
    known: before && cache.find(before, algorithm),
    keep(hex) {
      const after = look();
      if (before && after && sameStamp(before, after)) cache.keep(after, algorithm, hex);
    },
  };
}

function readEntries(file: string): Map<string, string> {
  const entries = new Map<string, string>();
  const text = readPrivately(file)?.toString('latin1');
  if (text === undefined) return entries;
  const [header, ...lines] = text.split('\n');
  if (header !== HEADER) return entries;
  for (const line of lines) {
    if (!/^\d+:\d+:\w+ \d+:\d+:\d+ [0-9a-f]+$/.test(line)) continue;
    const space = line.indexOf(' ');
    entries.set(line.slice(0, space), line.slice(space + 1));
  }
  return entries;
}
