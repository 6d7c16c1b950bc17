import { readdirSync } from 'node:fs';
import path from 'node:path';
import { type PackageContent, packageContent } from './content-cache.ts';
import type { Digested, Workshop } from './digest-files.ts';
import { cachedDigest } from './hash-cache.ts';
import { realDirectory } from './root-file-system.ts';
import { ToolError } from './tool-error.ts';

/**
 * Digests the files in the initial ramdisks of a directory: its files whose names begin with `initr`. A ramdisk is not
 * unpacked again while its file is the same.
 * @throws ToolError `not_found`, and what is wrong with a ramdisk
 */
export async function digestRamdisks(directory: string, workshop: Workshop): Promise<Digested[]> {
  const { progress } = workshop;
  const real = realDirectory(directory);
  const names = readdirSync(real, { withFileTypes: true })
    .filter((entry) => entry.name.startsWith('initr') && !entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  if (names.length === 0) throw new ToolError('not_found', `There is no file initr* in ${directory}`);
  progress.start('Digesting initial ramdisks', names.length);
  const ramdisks = await Promise.all(
    names.map(async (name) => {
      const files = await filesOf(path.join(real, name), workshop);
      progress.advance();
      return files;
    }),
  );
  return ramdisks.flatMap((files) => files.map(([name, hex]) => ({ name, hex })));
}

async function filesOf(file: string, { algorithm, pool, cache, contents }: Workshop): Promise<PackageContent['files']> {
  const sum = cachedDigest(cache, file, 'sha256');
  const known = sum.known === undefined ? undefined : contents.find(sum.known, algorithm, packageContent);
  if (known !== undefined) return known.files;
  const { files, sha256 } = await pool.run({ kind: 'initrd', file, algorithm });
  sum.keep(sha256);
  contents.keep(sha256, algorithm, { name: path.basename(file), version: '', files });
  return files;
}
