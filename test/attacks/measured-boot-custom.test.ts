import assert from 'node:assert/strict';
import { copyFile, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { decodeEventLog } from '@keylime/event-log/decode';
import { replayBank } from '@keylime/event-log/replay';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { bootOf, GOOD_LOG, logOf } from './boot-harness.ts';
import { type AttackedVerifier, assertFails, startAttackedVerifier } from './verifier-harness.ts';

/* Measured-boot policies that operators bring: whatever they do, it is a failure of theirs, and of nobody else. */
const MODULE = path.join(import.meta.dirname, 'boot-policies.fixture.ts');
const settings = { measured_boot_imports: `['${MODULE}']`, measured_boot_timeout: '1' };

const OTHER_LOG = logOf(bootOf({ kernel: Buffer.from('another kernel') }));

let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier({ settings });
});
after(() => verifier?.stop());

/** An agent of a machine that booted so. */
async function booted(id: string, at = verifier, log = GOOD_LOG): Promise<LyingAgent> {
  const agent = await at.agent(id);
  serve(agent, log);
  return agent;
}

/** The machine has the PCRs of one boot and the log of another. */
function serve(agent: LyingAgent, log: Buffer, measured = log): void {
  const pcrs = replayBank(decodeEventLog(measured), 'sha256');
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, pcrs: new Map([...(truth.pcrs ?? []), ...pcrs]) }),
    results: (truth) => ({ ...truth, mb_measurement_list: log.toString('base64') }),
  });
}

const enrol = (agent: LyingAgent, rules: string, mood: string, at = verifier) =>
  at.enrol(agent, {
    mb_policy: JSON.stringify({ mood }),
    mb_policy_rules: rules,
    runtime_policy: '',
    tpm_policy: '{"mask": "0x0"}',
  });

test('[MUST] a policy of the operator is asked once about a boot, and again about the next one', async () => {
  const agent = await booted('good');
  await enrol(agent, 'moody', 'good once');
  const status = await verifier.until('good', ({ attestation_count }) => attestation_count > 3);
  assert.equal(status.attestation_status, 'PASS');
  assert.ok(agent.asked.every(({ mask }) => mask === 0xfbff));
  agent.machine.reboot();
  await assertRefused('good', /moody failed: asked again/, 'a new boot is judged again, though its log is the same');
});

for (const [mood, message] of [
  ['throws', /moody failed: no, thanks/],
  ['ends', /moody failed: The thread broke/],
] as const) {
  test(`[MUST] a policy that ${mood} has refused the boot`, async () => {
    const agent = await booted(mood);
    await enrol(agent, 'moody', mood);
    await assertRefused(mood, message);
  });
}

test('[MUST] a policy that answers with a promise has refused the boot; what it breaks later breaks nothing else', async () => {
  const agent = await booted('promises');
  await enrol(agent, 'moody', 'promises');
  await assertRefused('promises', /moody failed: /);
  const late = await booted('late');
  await enrol(late, 'moody', 'breaks later');
  await verifier.until('late', ({ attestation_count }) => attestation_count > 3);
  const next = await booted('next');
  await enrol(next, 'moody', 'good');
  await verifier.until('next', ({ attestation_count }) => attestation_count > 0);
});

test('with measured_boot_evaluate = always a policy is asked about the same boot again', async () => {
  const other = await startAttackedVerifier({ settings: { ...settings, measured_boot_evaluate: 'always' } });
  try {
    await enrol(await booted('again', other), 'moody', 'good once', other);
    await assertRefused('again', /moody failed: asked again/, 'the same boot', other);
    const steady = await booted('steady', other);
    await enrol(steady, 'moody', 'good', other);
    await other.until('steady', ({ attestation_count }) => attestation_count > 3);
    serve(steady, OTHER_LOG, GOOD_LOG);
    const status = await other.until('steady', ({ attestation_status }) => attestation_status === 'FAIL');
    assert.equal(
      status.last_event_id,
      'measured_boot.invalid_pcr_4',
      'another log under the PCRs of the boot that passed',
    );
  } finally {
    await other.stop();
  }
});

async function assertRefused(id: string, message: RegExp, why?: string, at = verifier): Promise<void> {
  const status = await at.until(id, ({ attestation_status }) => attestation_status === 'FAIL');
  assert.equal(status.last_event_id, 'measured_boot.policy_moody', why);
  assert.match(String(status.last_failures[0]?.context.message), message);
}

test('[MUST] a policy that computes for ever has refused the boot, and meanwhile nobody else waits', async () => {
  const [hanging, other] = [await booted('hanging'), await booted('other')];
  await enrol(other, 'accept-all', 'good');
  await verifier.until('other', ({ attestation_count }) => attestation_count > 0);
  const before = (await verifier.status('other')).attestation_count;
  await enrol(hanging, 'moody', 'loops');
  const fresh = await booted('fresh');
  await enrol(fresh, 'accept-all', 'good');
  await verifier.until('fresh', ({ attestation_count }) => attestation_count > 0);
  assert.equal((await verifier.status('hanging')).attestation_status, 'PENDING', 'a new boot was judged meanwhile');
  await assertRefused('hanging', /moody failed: It took longer than 1000 ms/);
  const rounds = (await verifier.status('other')).attestation_count - before;
  assert.ok(rounds > 5, `${rounds} rounds of another agent while a policy computed`);
});

test('the next boot is judged as if nothing had been', async () => {
  const agent = await booted('after');
  await enrol(agent, 'moody', 'good');
  await verifier.until('after', ({ attestation_count }) => attestation_count > 0);
});

test('a reference state that the policy does not take is refused at upload, with its words', async () => {
  const json = { mb_policy: '{"humour": 1}', mb_policy_rules: 'moody' };
  const { code, status } = await verifier.ask({ method: 'POST', path: '/v2.6/mbpolicies/bad', json });
  assert.equal(code, 400);
  assert.match(status, /^mb_policy cannot be used: mood: good, good once, throws/);
  const broken = { mb_policy: '{"mood": "refuses to be read"}', mb_policy_rules: 'moody' };
  const answer = await verifier.ask({ method: 'POST', path: '/v2.6/mbpolicies/bad', json: broken });
  assert.equal(answer.code, 400);
  assert.match(answer.status, /^mb_policy cannot be used: measured-boot policy moody failed: not readable/);
});

test('[MUST] PCRs that the log does not lead to fail before the policy is asked', async () => {
  const agent = await booted('forged');
  agent.lie({ results: (truth) => ({ ...truth, mb_measurement_list: GOOD_LOG.toString('base64') }) });
  await enrol(agent, 'moody', 'good');
  await assertFails(
    verifier,
    { ...agent, truthful: () => 0 },
    { event: 'measured_boot.invalid_pcr_0', message: /PCR 0/ },
  );
});

test('the example of the documents judges: a module may be anywhere, use our packages, and need no reference state', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-boot-policies-'));
  const file = path.join(folder, 'secure-boot-on.mjs');
  await copyFile(path.join(import.meta.dirname, '../../docs/examples/secure-boot-on.mjs'), file);
  const other = await startAttackedVerifier({ settings: { measured_boot_imports: `['${file}']` } });
  try {
    for (const [id, log, status] of [
      ['on', GOOD_LOG, 'PASS'],
      ['off', logOf(bootOf({ secureBoot: false })), 'FAIL'],
    ] as const) {
      const agent = await booted(id, other, log);
      await other.enrol(agent, {
        mb_policy_rules: 'secure-boot-on',
        runtime_policy: '',
        tpm_policy: '{"mask": "0x0"}',
      });
      await other.until(id, ({ attestation_status }) => attestation_status === status);
    }
    assert.equal((await other.status('off')).last_event_id, 'measured_boot.policy_secure-boot-on');
  } finally {
    await other.stop();
    await rm(folder, { recursive: true });
  }
});

/** What a verifier says that does not start. */
async function refusal(changes: Readonly<Record<string, string>>): Promise<string> {
  try {
    const started = await startAttackedVerifier({ settings: changes });
    await started.stop();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return 'it started';
}

test('[MUST] a verifier does not start without the policies that its settings name', async () => {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-boot-policies-'));
  const module = async (name: string, text: string) => {
    await writeFile(path.join(folder, name), text);
    return { measured_boot_imports: `['${path.join(folder, name)}']` };
  };
  const part = 'pcrs: [7], decodeReference: () => ({ ok: true }), evaluate: () => []';
  for (const [changes, message] of [
    [{ measured_boot_policy_name: 'nobody' }, /measured_boot_policy_name: there is no policy 'nobody'/],
    [
      { measured_boot_imports: "['keylime.mba.elchecking']" },
      /measured_boot_imports: .* Python modules are not loaded/,
    ],
    [await module('broken.mjs', 'export const ='), /measured_boot_imports: .*Unexpected token/],
    [await module('throwing.mjs', 'throw new Error("not today")'), /not today/],
    [await module('empty.mjs', 'export const policies = [];'), /exports its measured-boot policies as `policies`/],
    [await module('taken.mjs', `export const policies = [{ name: 'accept-all', ${part} }];`), /accept-all already/],
    [
      await module('pcr.mjs', `export const policies = [{ name: 'x', ${part}, pcrs: [10] }];`),
      /`pcrs` is a list of PCRs/,
    ],
    [await module('half.mjs', "export const policies = [{ name: 'x', pcrs: [7] }];"), /no functions `decodeReference`/],
  ] as const) {
    assert.match(await refusal(changes), message);
  }
  await rm(folder, { recursive: true });
});
