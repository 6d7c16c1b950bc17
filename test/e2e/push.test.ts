import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Attester } from '@keylime/up/attester';
import { runtimePolicyOf } from '@keylime/up/machine';
import { hasNoted } from '@keylime/up/payload';
import { startTrial, type Trial } from '@keylime/up/trial';
import { until } from '@keylime/up/until';

/*
 * Agents that attest by themselves to our verifier. None of them listens.
 */

async function startPushTrial(t: TestContext, machines: readonly string[]) {
  const folder = await mkdtemp(join(tmpdir(), 'push-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return startTrial({ folder, quoteIntervalSeconds: 0.5, machines, model: 'push', say: () => {} });
}

async function enrol({ site, bootReference }: Trial, { id, machine }: Attester): Promise<void> {
  const policy = join(machine.folder, 'policy.json');
  await writeFile(policy, await runtimePolicyOf(machine));
  const options = ['--runtime-policy', policy, '--mb-policy', bootReference];
  const { code, output } = await site.tenant(['-c', 'add', '--push-model', '-u', id, ...options]);
  assert.equal(code, 0, output);
}

const statusOf = async ({ status }: Attester) => (await status()) ?? {};

/** Waits until the verifier has judged `more` attestations since now, and all is well. */
async function passes({ broken }: Trial, attester: Attester, more = 2): Promise<void> {
  const from = Number((await statusOf(attester)).attestation_count ?? 0);
  const passing = async () => {
    const { attestation_count: count, attestation_status: said } = await statusOf(attester);
    assert.notEqual(said, 'FAIL');
    return said === 'PASS' && Number(count) >= from + more;
  };
  await until(passing, `${attester.machine.name} to pass`, { broken });
}

const fails = ({ broken }: Trial, attester: Attester) =>
  until(async () => (await statusOf(attester)).attestation_status === 'FAIL', 'the verdict', { broken });

test('a push agent passes, is caught when it runs something unknown, and its peers that nobody can reach act upon it', async (t) => {
  await using trial = await startPushTrial(t, ['alpha', 'beta']);
  const [alpha, beta] = trial.attesters;
  assert.ok(alpha && beta);
  for (const attester of [alpha, beta]) await enrol(trial, attester);
  for (const attester of [alpha, beta]) await passes(trial, attester);

  await alpha.machine.run('/usr/local/bin/unknown', '#!/bin/sh\necho nobody knows me\n');
  await fails(trial, alpha);
  assert.equal((await statusOf(alpha)).last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
  await until(() => hasNoted(beta.keylimeDir, alpha.id), 'beta to act', { broken: trial.broken });
  await until(async () => trial.site.webhook.received.length > 0, 'the webhook', { broken: trial.broken });
  assert.deepEqual(
    trial.site.webhook.received.map(({ message }) => [message.type, message.agent_id]),
    [['revocation', alpha.id]],
  );
  await passes(trial, beta);
});

test('a push agent goes on after a reboot as before, and with another kernel command line it is caught', async (t) => {
  await using trial = await startPushTrial(t, ['alpha']);
  const [alpha] = trial.attesters;
  assert.ok(alpha);
  await enrol(trial, alpha);
  await passes(trial, alpha);
  await alpha.reboot({});
  await passes(trial, alpha);
  assert.deepEqual(trial.site.webhook.received, []);
  await alpha.reboot({ kernelCommandLine: '/boot/vmlinuz root=LABEL=ROOT ro init=/bin/sh' });
  await fails(trial, alpha);
  assert.equal((await statusOf(alpha)).last_event_id, 'measured_boot.policy_strict');
});
