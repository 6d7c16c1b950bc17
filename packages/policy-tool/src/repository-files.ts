import { createReadStream } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { findUrl, openUrl, saveUrl } from './http-files.ts';
import { isErrno, reason, ToolError } from './tool-error.ts';

/** The files of a package repository, in a directory or on a server, by their paths in it. */
export type RepositoryFiles = {
  /** `undefined` if there is no such file. @throws ToolError `file_unreadable`, `download_failed`, `repository_invalid` */
  readonly find: (path: string) => Promise<Buffer | undefined>;
  /** The same as a stream, of which a server needs to send only `firstBytes`. */
  readonly open: (path: string, firstBytes?: number) => Promise<AsyncIterable<Uint8Array>>;
  /** Hands over the name of a local file with that content, for as long as `work` runs. */
  readonly withFile: <T>(path: string, work: (file: string) => Promise<T>) => Promise<T>;
  /** What to call a file in messages. */
  readonly show: (path: string) => string;
};

const MAX_METADATA_BYTES = 1 << 30;

export const isUrl = (where: string): boolean => /^https?:\/\//.test(where);

/** Metadata name files of the repository: they must not lead out of it. */
function inside(file: string): string {
  const isWithin = !file.startsWith('/') && !/^[A-Za-z][A-Za-z0-9+.-]*:/.test(file) && !file.split('/').includes('..');
  if (isWithin && !file.includes('\0') && !file.includes('\\')) return file;
  throw new ToolError('repository_invalid', `The repository names a file outside of it: ${JSON.stringify(file)}`);
}

export const openRepository = (where: string): RepositoryFiles => (isUrl(where) ? remote(where) : local(where));

function local(directory: string): RepositoryFiles {
  const place = (file: string) => path.join(directory, inside(file));
  return {
    show: place,
    async find(file) {
      try {
        return await readFile(place(file));
      } catch (error) {
        if (isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
        if (error instanceof ToolError) throw error;
        throw new ToolError('file_unreadable', `Cannot read ${place(file)}: ${reason(error)}`, { cause: error });
      }
    },
    open: async (file) => createReadStream(place(file)),
    withFile: (file, work) => work(place(file)),
  };
}

function remote(base: string): RepositoryFiles {
  const root = base.replace(/\/+$/, '');
  const place = (file: string) => `${root}/${inside(file).split('/').map(encodeURIComponent).join('/')}`;
  return {
    show: place,
    find: (file) => findUrl(place(file), MAX_METADATA_BYTES),
    async open(file, firstBytes) {
      const body = await openUrl(place(file), firstBytes === undefined ? {} : { firstBytes });
      if (body !== undefined) return body;
      throw new ToolError('download_failed', `Downloading ${place(file)} failed: there is no such file`);
    },
    async withFile(file, work) {
      const directory = await mkdtemp(path.join(os.tmpdir(), 'keylime-policy-'));
      try {
        const copy = path.join(directory, 'file');
        await saveUrl(place(file), copy);
        return await work(copy);
      } finally {
        await rm(directory, { recursive: true });
      }
    },
  };
}

/** Does `work` for every item, for at most `limit` at the same time; the first failure ends it. */
export async function forEachLimited<T>(
  items: readonly T[],
  limit: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  let next = 0;
  let failed = false;
  const take = async (): Promise<void> => {
    for (let at = next++; at < items.length && !failed; at = next++) {
      try {
        await work(items[at] as T);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(limit, items.length) }, take));
}
