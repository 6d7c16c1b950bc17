import { createHash, hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { ByteReader } from './archive/byte-reader.ts';
import { decompressed } from './archive/compression.ts';
import { initrdFiles } from './archive/initrd.ts';
import { tarEntries } from './archive/tar.ts';
import type { PackageContent } from './content-cache.ts';
import { readDeb } from './deb/deb-package.ts';
import { digestFile, type FileDigestResult } from './file-digest.ts';
import { isErrno, reason, ToolError } from './tool-error.ts';

/** A part of a file: the whole if `sizeBytes` is absent. */
export type FilePart = { readonly file: string; readonly offset?: number; readonly sizeBytes?: number };

/** An entry of a layer, its path without `/` in front. */
export type LayerEntry =
  | { readonly path: string; readonly type: 'file'; readonly hex: string }
  | { readonly path: string; readonly type: 'hard_link' | 'symbolic_link'; readonly target: string }
  | { readonly path: string; readonly type: 'directory' | 'other' };

/** Work for a thread of the pool, and what it gives: all of it reads much and answers little. */
export type HashTask =
  | {
      readonly kind: 'files';
      readonly paths: readonly string[];
      readonly algorithm: HashAlgorithm;
      readonly md5: boolean;
    }
  | { readonly kind: 'initrd'; readonly file: string; readonly algorithm: HashAlgorithm }
  | {
      readonly kind: 'deb';
      readonly file: string;
      readonly algorithm: HashAlgorithm;
      readonly sha256?: string;
      /** What to call the file in errors. */
      readonly shown?: string;
    }
  | { readonly kind: 'layer'; readonly part: FilePart; readonly algorithm: HashAlgorithm; readonly sha256: string }
  | { readonly kind: 'sum'; readonly file: string; readonly algorithm: string };

export type HashResult = {
  readonly files: readonly FileDigestResult[];
  readonly initrd: Pick<PackageContent, 'files'> & { readonly sha256: string };
  readonly deb: PackageContent & { readonly sha256: string };
  readonly layer: readonly LayerEntry[];
  readonly sum: string;
};

/** Does one task. @throws ToolError */
export async function runHashTask(task: HashTask): Promise<HashResult[HashTask['kind']]> {
  switch (task.kind) {
    case 'files':
      return task.paths.map((path) => digestFile(path, task.algorithm, task.md5));
    case 'initrd':
      return inFile(task.file, async () => {
        const name = opensslName(task.algorithm);
        const bytes = await readFile(task.file);
        const files = (await initrdFiles(bytes)).map(
          ({ path, content }) => [decodeUtf8(path), hash(name, content)] as const,
        );
        return { files, sha256: hash('sha256', bytes) };
      });
    case 'deb':
      return inFile(task.shown ?? task.file, async () => {
        const { result, sha256 } = await readCounted(task, (bytes) => readDeb(bytes, task.algorithm));
        return { ...result, sha256 };
      });
    case 'layer':
      return inFile(task.part.file, async () => {
        const part = { ...task.part, sha256: task.sha256 };
        return (await readCounted(part, (bytes) => readLayer(bytes, task.algorithm))).result;
      });
    case 'sum':
      return inFile(task.file, () => sumOf(task, task.algorithm));
  }
}

const CHUNK_BYTES = 1 << 20;

/** Names the file in what goes wrong with it. */
async function inFile<T>(file: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof ToolError) throw new ToolError(error.code, `${file}: ${error.message}`, { cause: error });
    if (isErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'EISDIR', 'ENOTDIR', 'EIO')) {
      throw new ToolError('file_unreadable', `Cannot read ${file}: ${reason(error)}`, { cause: error });
    }
    throw error;
  }
}

const streamOf = ({ file, offset = 0, sizeBytes }: FilePart) =>
  createReadStream(file, {
    start: offset,
    ...(sizeBytes !== undefined && { end: offset + sizeBytes - 1 }),
    highWaterMark: CHUNK_BYTES,
  });

/**
 * Reads a part of a file to its end, and gives no result unless it has the SHA-256 that it should have, if that is known.
 * What cannot be read and is not what it should be is told to be another file, and not a damaged one.
 */
async function readCounted<T>(
  { sha256, ...part }: FilePart & { readonly sha256?: string },
  read: (bytes: AsyncIterable<Uint8Array>) => Promise<T>,
): Promise<{ readonly result: T; readonly sha256: string }> {
  const sum = createHash('sha256');
  const stream = streamOf(part);
  async function* counted() {
    for await (const piece of stream) {
      sum.update(piece);
      yield piece as Buffer;
    }
  }
  const source = counted();
  try {
    const result = await read(source);
    const rest = await source.next();
    if (!rest.done) throw new ToolError('archive_malformed', 'Something follows the end of the archive');
    const actual = sum.digest('hex');
    if (sha256 !== undefined) requireDigest(actual, sha256);
    return { result, sha256: actual };
  } catch (error) {
    if (sha256 !== undefined && error instanceof ToolError && error.code !== 'digest_mismatch') {
      requireDigest(await sumOf(part, 'sha256'), sha256);
    }
    throw error;
  } finally {
    stream.destroy();
  }
}

function requireDigest(actual: string, sha256: string): void {
  if (actual === sha256) return;
  throw new ToolError('digest_mismatch', `Its SHA-256 is ${actual}, it should be ${sha256}`);
}

async function sumOf(part: FilePart, algorithm: string): Promise<string> {
  const sum = createHash(algorithm);
  for await (const piece of streamOf(part)) sum.update(piece);
  return sum.digest('hex');
}

async function readLayer(source: AsyncIterable<Uint8Array>, algorithm: HashAlgorithm): Promise<readonly LayerEntry[]> {
  const name = opensslName(algorithm);
  const entries: LayerEntry[] = [];
  for await (const entry of tarEntries(new ByteReader(decompressed(source), 'tar'))) {
    const path = textOf(entry.path);
    if (entry.type === 'file') {
      const sum = createHash(name);
      await entry.content((piece) => sum.update(piece));
      entries.push({ path, type: 'file', hex: sum.digest('hex') });
    } else if (entry.type === 'hard_link' || entry.type === 'symbolic_link') {
      entries.push({ path, type: entry.type, target: textOf(entry.target) });
    } else entries.push({ path, type: entry.type });
  }
  return entries;
}

/** Paths of archives are bytes. */
export const textOf = (latin1: string): string =>
  /^[\0-\x7f]*$/.test(latin1) ? latin1 : decodeUtf8(Buffer.from(latin1, 'latin1'));
