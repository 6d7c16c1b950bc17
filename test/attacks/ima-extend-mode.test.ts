import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { parseImaLine } from '@keylime/ima/entry';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { SIMULATED_BOOT_AGGREGATE } from '@keylime/testing/simulated-agent';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  enrolment,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Kernels before Linux 5.8 extend a SHA-256 bank with SHA-1 template hashes and zeros behind them. Which kind of kernel a
 * machine has is the operator's word: an agent that may choose could choose what its list happens to lead to.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier();
});
after(() => verifier?.stop());

const sha1 = (line: string): Buffer => {
  const parsed = parseImaLine(line.trimEnd());
  assert.ok(parsed.ok);
  return digest('sha1', parsed.value.templateInput);
};
const padded = (line: string): Buffer => Buffer.concat([sha1(line), Buffer.alloc(12)]);

function lineOf(path: string, content: string): string {
  const fields = `ima-ng sha256:${digest('sha256', Buffer.from(content)).toString('hex')} ${path}\n`;
  return `10 ${sha1(`10 ${'1'.repeat(40)} ${fields}`).toString('hex')} ${fields}`;
}

const [ALLOWED = ''] = ALLOWED_FILES;
const allowed = lineOf(ALLOWED, ALLOWED);
const implant = lineOf('/usr/bin/implant', 'implant');
const violation = allowed.replace(/^10 [0-9a-f]+ /, `10 ${'0'.repeat(40)} `);
const ones = Buffer.concat([Buffer.alloc(20, 0xff), Buffer.alloc(12)]);
const policy = { runtime_policy: base64(runtimePolicy()) };

/** A machine with an old kernel: from its boot on, PCR 10 is extended with padded hashes. */
async function oldMachine(id: string): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  agent.machine.bootWithout();
  // What it does differently counts as a lie.
  agent.lie({});
  const fields = `ima-ng sha256:${SIMULATED_BOOT_AGGREGATE} boot_aggregate\n`;
  const boot = `10 ${sha1(`10 ${'1'.repeat(40)} ${fields}`).toString('hex')} ${fields}`;
  for (const line of [boot, allowed]) agent.machine.append(line, padded(line));
  return agent;
}

test('a machine with an old kernel passes where the operator says that it has one, violations among its list', async () => {
  const agent = await oldMachine('old');
  agent.machine.append(violation, ones);
  await verifier.enrol(agent, { ...policy, ima_extend_mode: 'padded_sha1' });
  const { last_failures } = await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 1);
  assert.deepEqual(last_failures, []);
});

test('[MUST] caught: the list of an old kernel where nobody said so', async () => {
  const agent = await oldMachine('unsaid');
  await verifier.enrol(agent, policy);
  await assertFails(verifier, agent, { event: 'ima.pcr_mismatch', message: /ima_extend_mode/ });
});

test('[MUST] caught: an agent that says itself how its kernel extends', async () => {
  const agent = await oldMachine('says-itself');
  agent.lie({ results: (truth) => ({ ...truth, ima_extend_mode: 'padded_sha1', extend_mode: 'padded_sha1' }) });
  await verifier.enrol(agent, policy);
  await assertFails(verifier, agent, { event: 'ima.pcr_mismatch', message: /expected PCR 10/ });
});

test('[MUST] caught: the list of a new kernel where the operator named an old one, so that neither is tried in silence', async () => {
  const agent = await verifier.agent('new');
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  agent.lie({});
  await verifier.enrol(agent, { ...policy, ima_extend_mode: 'padded_sha1' });
  await assertFails(verifier, agent, { event: 'ima.pcr_mismatch', message: /expected PCR 10/ });
});

test('[MUST] caught: with an old kernel too, what the policy does not know, and an entry that PCR 10 does not hold', async () => {
  const unknown = await oldMachine('old-unknown');
  unknown.machine.append(implant, padded(implant));
  await verifier.enrol(unknown, { ...policy, ima_extend_mode: 'padded_sha1' });
  await assertFails(verifier, unknown, { event: 'ima.validation.ima-ng.not_in_allowlist', message: /implant/ });
  const hidden = await oldMachine('old-hidden');
  hidden.machine.append(allowed.replace(ALLOWED, ALLOWED_FILES[1] ?? ''), padded(implant));
  await verifier.enrol(hidden, { ...policy, ima_extend_mode: 'padded_sha1' });
  await assertFails(verifier, hidden, { event: 'ima.validation.ima_hash', message: /Template hash/ });
});

test('another word for it is refused when the agent is enrolled', async () => {
  const agent = await verifier.agent('another-word');
  const json = enrolment(agent, { ima_extend_mode: 'any' });
  const answer = await verifier.ask({ method: 'POST', path: `/v2.5/agents/${agent.id}`, json });
  assert.deepEqual([answer.code, answer.status], [400, 'ima_extend_mode must be one of bank, padded_sha1']);
});

test('a verifier for a fleet of old kernels is set so, and a machine with a new one is enrolled as such', async () => {
  const other = await startAttackedVerifier({ settings: { ima_extend_mode: 'padded_sha1' } });
  try {
    const agent = await other.agent('modern');
    agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
    await other.enrol(agent, { ...policy, ima_extend_mode: 'bank' });
    await other.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  } finally {
    await other.stop();
  }
});
