import { createHash, type Hash, hash } from 'node:crypto';
import { type BigIntStats, closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { encodeUtf8 } from '@keylime/ima/list-text';
import { isErrno, reason } from './tool-error.ts';

/** What tells one state of a file from another. */
export type FileStamp = {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
};

export type FileDigestResult =
  | { readonly hex: string; readonly md5?: string; readonly stamp: FileStamp }
  /** Why there is no digest. */
  | { readonly problem: string };

const CHUNK_BYTES = 1 << 20;
const chunk = Buffer.allocUnsafe(CHUNK_BYTES);

/** A path for the operating system: one that is not UTF-8 goes as bytes. */
export const systemPath = (path: string): string | Buffer => (path.isWellFormed() ? path : encodeUtf8(path));

export const stampOf = ({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): FileStamp => ({
  dev,
  ino,
  size,
  mtimeNs,
  ctimeNs,
});

export const sameStamp = (a: FileStamp, b: FileStamp): boolean =>
  a.dev === b.dev && a.ino === b.ino && a.size === b.size && a.mtimeNs === b.mtimeNs && a.ctimeNs === b.ctimeNs;

/**
 * Digest of a regular file's content, lower-case hex; with `md5`, that digest too. A file that changes while it is read
 * has none, nor has what is no longer a regular file: links are not followed.
 */
export function digestFile(path: string, algorithm: HashAlgorithm, md5: boolean): FileDigestResult {
  let fd: number | undefined;
  try {
    fd = openSync(systemPath(path), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    const before = fstatSync(fd, { bigint: true });
    if (!before.isFile()) return { problem: 'it is no regular file' };
    const digests = digestDescriptor(fd, algorithm, md5);
    const after = stampOf(fstatSync(fd, { bigint: true }));
    if (!sameStamp(stampOf(before), after)) return { problem: 'it changed while it was read' };
    return { ...digests, stamp: after };
  } catch (error) {
    return { problem: isErrno(error, 'ELOOP') ? 'it is no regular file' : reason(error) };
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

function digestDescriptor(fd: number, algorithm: HashAlgorithm, md5: boolean) {
  const name = opensslName(algorithm);
  let read = readSync(fd, chunk, 0, CHUNK_BYTES, null);
  if (read < CHUNK_BYTES) {
    // Most files: shorter than a chunk, for a read of a regular file falls short at its end only.
    const content = chunk.subarray(0, read);
    return { hex: hash(name, content), ...(md5 && { md5: hash('md5', content) }) };
  }
  const hashes: readonly Hash[] = [createHash(name), ...(md5 ? [createHash('md5')] : [])];
  for (; read > 0; read = readSync(fd, chunk, 0, CHUNK_BYTES, null)) {
    for (const one of hashes) one.update(chunk.subarray(0, read));
  }
  const [hex = '', md5Hex] = hashes.map((one) => one.digest('hex'));
  return { hex, ...(md5Hex !== undefined && { md5: md5Hex }) };
}
