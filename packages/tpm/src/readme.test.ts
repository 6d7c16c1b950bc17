import { test } from 'node:test';
import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { assertReadmeExample } from '@keylime/testing/readme-example';

test('the example of the README does what it says', async (t) => {
  const swtpm = await startSwtpm({ certificates: false });
  t.after(() => swtpm.stop());
  await assertReadmeExample(import.meta.dirname, { TCTI: swtpm.tcti });
});
