import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { bootOtherwise, enrol } from '@keylime/up/story';
import { startTrial } from '@keylime/up/trial';
import { until } from '@keylime/up/until';

test('a machine that boots as before goes on to pass, and with another initrd it is caught', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'reboot-'));
  try {
    await using trial = await startTrial({ folder, quoteIntervalSeconds: 0.25, machines: ['alpha'], say: () => {} });
    const { broken, site } = trial;
    const [alpha] = trial.attesters;
    assert(alpha);
    await enrol(trial, alpha);

    await alpha.reboot({});
    const status = async () => (await alpha.status()) ?? {};
    const { attestation_count: before } = await status();
    await until(async () => Number((await status()).attestation_count) > Number(before), 'alpha to pass', { broken });
    assert.equal((await status()).attestation_status, 'PASS');
    assert.deepEqual(site.webhook.received, []);

    const caught = await bootOtherwise(trial, alpha, { initrd: Buffer.from('an initrd with a shell') });
    assert.equal(caught.boot_event_id, 'measured_boot.policy_strict');
    assert.match(caught.boot_message, /initrd unexpected/);
    assert.match(caught.boot_found, /^sha256 [0-9a-f]{64} \(\/boot\/initrd\.img\)$/);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
