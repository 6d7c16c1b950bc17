import { type BigIntStats, type Dirent, lstatSync, readdirSync } from 'node:fs';
import { decodeUtf8 } from '@keylime/ima/list-text';
import type { Candidate } from './digest-files.ts';
import { stampOf, systemPath } from './file-digest.ts';
import type { Skipped } from './skipped.ts';
import { isErrno, reason } from './tool-error.ts';

/** What on a running system is no installed file. */
export const SKIPPED_DIRECTORIES: readonly string[] = [
  '/sys',
  '/run',
  '/proc',
  '/lost+found',
  '/dev',
  '/media',
  '/snap',
  '/mnt',
  '/var',
  '/tmp',
];

export type FileTreeOptions = {
  /** Absolute, without `/` at its end unless it is `/`. */
  readonly root: string;
  /** Directories and files to leave out, as paths from `root` on. */
  readonly skip: ReadonlySet<string>;
  /** Take files whoever owns them, and not only those of root, which alone a usual IMA policy measures. */
  readonly anyOwner: boolean;
};

/** The regular files below a root, in the order of their names; links are not followed. */
export function* fileTree({ root, skip, anyOwner }: FileTreeOptions, skipped: Skipped): Generator<Candidate> {
  const prefix = root === '/' ? '' : root;
  const waiting = [''];
  for (let directory = waiting.pop(); directory !== undefined; directory = waiting.pop()) {
    const found: string[] = [];
    for (const entry of entriesOf(prefix + directory || '/', skipped)) {
      const name = `${directory}/${entry.name}`;
      if (skip.has(name)) skipped.left('excluded directories and files', name);
      else if (entry.isDirectory()) found.push(name);
      else if (entry.isFile()) {
        const path = prefix + name;
        const stat = stateOf(path, skipped);
        if (stat === undefined) continue;
        if (!anyOwner && stat.uid !== 0n) skipped.left('files that do not belong to root', name);
        else yield { name, path, stamp: stampOf(stat) };
      }
    }
    // Taken from the end.
    waiting.push(...found.reverse());
  }
}

type Entry = Pick<Dirent, 'name' | 'isDirectory' | 'isFile'>;

function entriesOf(directory: string, skipped: Skipped): readonly Entry[] {
  try {
    const path = systemPath(directory);
    const entries = readdirSync(path, { withFileTypes: true });
    const isText = entries.every(({ name }) => !name.includes('\ufffd'));
    const named: Entry[] = isText ? entries : bytesOf(path);
    return named.sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch (error) {
    skipped.failed(`directories that cannot be read: ${reason(error)}`, directory);
    return [];
  }
}

/** Names that are not UTF-8 are lost unless they are read as bytes. */
const bytesOf = (directory: string | Buffer): Entry[] =>
  readdirSync(directory, { withFileTypes: true, encoding: 'buffer' }).map((entry) => ({
    name: decodeUtf8(entry.name),
    isDirectory: () => entry.isDirectory(),
    isFile: () => entry.isFile(),
  }));

function stateOf(path: string, skipped: Skipped): BigIntStats | undefined {
  try {
    return lstatSync(systemPath(path), { bigint: true });
  } catch (error) {
    // Removed since its directory was read: it is not part of the system.
    if (!isErrno(error, 'ENOENT')) skipped.failed(`files that cannot be digested: ${reason(error)}`, path);
    return undefined;
  }
}
