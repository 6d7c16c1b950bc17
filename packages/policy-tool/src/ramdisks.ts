import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Digested, Workshop } from './digest-files.ts';
import { realDirectory } from './root-file-system.ts';
import { ToolError } from './tool-error.ts';

/**
 * Digests the files in the initial ramdisks of a directory: its files whose names begin with `initr`.
 * @throws ToolError `not_found`, and what is wrong with a ramdisk
 */
export async function digestRamdisks(directory: string, { algorithm, pool, progress }: Workshop): Promise<Digested[]> {
  const real = realDirectory(directory);
  const names = readdirSync(real, { withFileTypes: true })
    .filter((entry) => entry.name.startsWith('initr') && !entry.isDirectory())
    .map(({ name }) => name)
    .sort();
  if (names.length === 0) throw new ToolError('not_found', `There is no file initr* in ${directory}`);
  progress.start('Digesting initial ramdisks', names.length);
  const ramdisks = await Promise.all(
    names.map(async (name) => {
      const files = await pool.run({ kind: 'initrd', file: path.join(real, name), algorithm });
      progress.advance();
      return files;
    }),
  );
  return ramdisks.flatMap((files) => files.map(([name, hex]) => ({ name, hex })));
}
