import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { assertReadmeExample } from '@keylime/testing/readme-example';
import { referenceOf, vectorLog, verifiedBy } from './internal/samples.ts';

test('the example of the README does what it says', async (t) => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-measured-boot-'));
  t.after(() => rm(folder, { recursive: true }));
  const REFERENCE = path.join(folder, 'reference.json');
  await writeFile(REFERENCE, JSON.stringify(referenceOf(verifiedBy(vectorLog('debian12-secureboot-vm')))));
  const LOG = path.join(import.meta.dirname, '../../testing/vectors/debian12-secureboot-vm/bios.bin');
  await assertReadmeExample(import.meta.dirname, { LOG, REFERENCE });
});
