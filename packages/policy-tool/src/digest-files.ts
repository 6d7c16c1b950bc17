import type { HashAlgorithm } from '@keylime/core/digest';
import type { ContentCache } from './content-cache.ts';
import type { FileStamp } from './file-digest.ts';
import type { HashCache } from './hash-cache.ts';
import type { HashPool } from './hash-pool.ts';
import type { Progress } from './progress.ts';
import type { Skipped } from './skipped.ts';

/** What a source of digests works with. */
export type Workshop = {
  readonly algorithm: HashAlgorithm;
  readonly pool: HashPool;
  readonly cache: HashCache;
  readonly contents: ContentCache;
  readonly progress: Progress;
  readonly skipped: Skipped;
  readonly now: Date;
};

/** A regular file to be digested: its name in the policy, where it is, and its state when it was found. */
export type Candidate = { readonly name: string; readonly path: string; readonly stamp: FileStamp };

export type Digested = { readonly name: string; readonly hex: string; readonly md5?: string };

/** Files per task of a thread: enough to make messages cheap, few enough to share the work. */
const BATCH_FILES = 128;
const BATCH_BYTES = 8 << 20;

/**
 * Digests files in threads, those of the cache at once; the results are in the order of the files, without those that
 * could not be read. With `md5` that digest comes, too.
 */
export async function digestFiles(
  files: Iterable<Candidate>,
  { algorithm, pool, cache, progress, skipped }: Workshop,
  md5 = false,
): Promise<readonly Digested[]> {
  const results: (Digested | undefined)[] = [];
  const running: Promise<void>[] = [];
  let batch: { readonly at: number; readonly file: Candidate }[] = [];
  let bytes = 0n;

  const send = async (sent: typeof batch): Promise<void> => {
    const digests = await pool.run({ kind: 'files', paths: sent.map(({ file }) => file.path), algorithm, md5 });
    for (const [i, { at, file }] of sent.entries()) {
      const result = digests[i] ?? { problem: 'it was not looked at' };
      if ('problem' in result) {
        skipped.failed(`files that cannot be digested: ${result.problem}`, file.path);
        continue;
      }
      const { hex, stamp } = result;
      results[at] = { name: file.name, hex, ...(result.md5 !== undefined && { md5: result.md5 }) };
      cache.keep(stamp, algorithm, hex);
      if (result.md5 !== undefined) cache.keep(stamp, 'md5', result.md5);
    }
    progress.advance(sent.length);
  };

  for (const file of files) {
    const at = results.push(undefined) - 1;
    progress.grow(1);
    const hex = cache.find(file.stamp, algorithm);
    const knownMd5 = md5 ? cache.find(file.stamp, 'md5') : undefined;
    if (hex !== undefined && (!md5 || knownMd5 !== undefined)) {
      results[at] = { name: file.name, hex, ...(knownMd5 !== undefined && { md5: knownMd5 }) };
      progress.advance();
      continue;
    }
    batch.push({ at, file });
    bytes += file.stamp.size;
    if (batch.length >= BATCH_FILES || bytes >= BATCH_BYTES) {
      const sending = send(batch);
      // The first failure is thrown below; the others must not end the program on their own.
      sending.catch(() => {});
      running.push(sending);
      batch = [];
      bytes = 0n;
      // The search for files would keep the threads' answers waiting.
      await new Promise(setImmediate);
    }
  }
  if (batch.length > 0) running.push(send(batch));
  await Promise.all(running);
  return results.filter((result) => result !== undefined);
}
