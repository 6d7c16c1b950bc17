import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import type { QuoteOptions } from '@keylime/testing/software-ak';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  base64,
  FAILED,
  GET_QUOTE,
  INVALID_QUOTE,
  judgedLate,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * What the verifier remembers of a machine between two rounds: hole 6, and everything else by which root could have a
 * round pass without its quote, or have entries count that nobody judged.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier();
});
after(() => verifier?.stop());

const QUOTE = 'qoute_validation.quote_validation';
const [ALLOWED = ''] = ALLOWED_FILES;

async function enrolled(id: string): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

/** The truth with another clock. */
const clocked =
  ({ ak }: LyingAgent, change: (truth: NonNullable<QuoteOptions['clockInfo']>) => QuoteOptions['clockInfo']) =>
  (truth: QuoteOptions) =>
    ak.quote({ ...truth, clockInfo: { ...truth.clockInfo, ...change(truth.clockInfo ?? {}) } });

test('[MUST] hole 6: an unexpected boot time with a list that goes on is no pass, and the whole list is asked for', async () => {
  const agent = await enrolled('boot-time');
  const { attestation_count } = await verifier.until('boot-time', ({ attestation_count: n }) => n >= 2);
  assert.equal(agent.asked.at(-1)?.entry, 1);
  let lies = 0;
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  agent.lie({
    // Root leaves out the new entry while it claims that the machine was booted meanwhile.
    results: (truth) => ({ ...truth, ima_measurement_list: '', boottime: 1_700_000_000 + ++lies }),
  });
  const status = await verifier.until('boot-time', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.equal(status.operational_state, INVALID_QUOTE);
  assert.ok(status.attestation_count <= agent.truthful(), 'no lie was counted');
  assert.ok(status.attestation_count >= attestation_count);
  const [asked] = agent.asked.slice(agent.truthful() + 1);
  assert.deepEqual([asked?.entry, asked?.partial], [0, false], 'after the first lie everything is asked for');
  assert.deepEqual(verifier.outcomes('boot-time').slice(-2), ['inconclusive', 'contraindicated']);
});

test('[MUST] hole 6: a quote that is false is a failure, whatever boot time comes with it', async () => {
  const agent = await enrolled('false-boot');
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, nonce: Buffer.from('B'.repeat(20)) }),
    results: (truth) => ({ ...truth, boottime: 77 }),
  });
  await assertFails(verifier, agent, { event: QUOTE, message: /not about the nonce/ });
});

test('another boot time with every answer neither passes nor hides: each second round judges the whole list', async () => {
  const agent = await enrolled('restless');
  let boottime = 5;
  agent.lie({ results: (truth) => ({ ...truth, boottime: ++boottime }) });
  await verifier.until(
    'restless',
    () => verifier.outcomes('restless').filter((one) => one === 'inconclusive').length > 2,
  );
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  const status = await verifier.until('restless', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.equal(status.last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
  const passes = verifier.outcomes('restless').filter((one) => one === 'affirming').length;
  assert.equal(status.attestation_count, passes);
});

test('[MUST] a reboot that the TPM attests: entries of the old list do not count, the new one is judged from its start', async () => {
  const agent = await enrolled('rebooted');
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  await verifier.until('rebooted', () => agent.asked.at(-1)?.entry === 2);
  const asked = agent.asked.length;
  agent.machine.reboot();
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  agent.machine.measure(ALLOWED, Buffer.from(`${ALLOWED} changed`));
  agent.lie({});
  await assertFails(verifier, agent, {
    event: 'ima.validation.ima-ng.runtime_policy_hash',
    message: /Hashes for file \/usr\/bin\/allowed/,
  });
  assert.ok(agent.asked.slice(asked).some(({ entry }) => entry === 0));
});

test('[MUST] a raised reset count with a list that goes on is no pass, even if the list would fit', async () => {
  const agent = await enrolled('reset-count');
  await verifier.until('reset-count', ({ attestation_count }) => attestation_count >= 2);
  const before = verifier.outcomes('reset-count').length;
  agent.lie({ quote: clocked(agent, () => ({ resetCount: 9 })) });
  await verifier.until('reset-count', () => verifier.outcomes('reset-count').length >= before + 4);
  const outcomes = verifier.outcomes('reset-count').slice(before);
  assert.equal(outcomes.filter((one) => one === 'inconclusive').length, 1, outcomes.join());
  const at = outcomes.indexOf('inconclusive');
  assert.equal(agent.asked[before + at]?.entry, 1);
  assert.equal(agent.asked[before + at + 1]?.entry, 0);
  const { operational_state, attestation_count } = await verifier.status('reset-count');
  assert.equal(operational_state, GET_QUOTE);
  const passes = verifier.outcomes('reset-count').filter((one) => one === 'affirming').length;
  assert.ok(attestation_count <= passes);
});

for (const [id, change, message] of [
  ['reset-count-down', () => ({ resetCount: 0 }), /reset count went back from 1 to 0/],
  ['clock-back', () => ({ clock: 0n }), /clock did not advance/],
  ['clock-stopped', () => ({ clock: 1n }), /clock did not advance/],
] as const) {
  test(`[MUST] caught: ${id}, as of a TPM state that was put back`, async () => {
    const agent = await enrolled(id);
    agent.lie({ quote: clocked(agent, change) });
    await assertFails(verifier, agent, { event: QUOTE, message });
  });
}

test('[MUST] caught: a restart count that goes back without a reset', async () => {
  const agent = await verifier.agent('restarts');
  agent.lie({ quote: clocked(agent, () => ({ restartCount: 4 })) });
  await verifier.enrol(agent);
  await verifier.until('restarts', ({ attestation_count }) => attestation_count > 0);
  agent.lie({ quote: clocked(agent, () => ({ restartCount: 3 })) });
  const status = await verifier.until('restarts', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.match(String(status.last_failures[0]?.context.error), /restart count went back from 4 to 3/);
});

test('[MUST] an unsafe clock is inconclusive for a while, and for ever a failure; no round of it is counted', async () => {
  const agent = await enrolled('unsafe');
  agent.lie({ quote: clocked(agent, () => ({ safe: false })) });
  const status = await assertFails(verifier, agent, { event: QUOTE, message: /No conclusive attestation in 3 rounds/ });
  assert.equal(status.inconclusive_rounds, 3);
  assert.deepEqual(verifier.outcomes('unsafe').slice(-3), ['inconclusive', 'inconclusive', 'inconclusive']);

  const recovered = await enrolled('unsafe-once');
  const before = verifier.outcomes('unsafe-once').length;
  recovered.lie({ quote: clocked(recovered, () => ({ safe: false })) });
  await verifier.until('unsafe-once', () => verifier.outcomes('unsafe-once').slice(before).includes('inconclusive'));
  recovered.lie();
  const good = await verifier.until('unsafe-once', ({ inconclusive_rounds: n }) => n === 0);
  assert.deepEqual([good.operational_state, good.last_event_id], [GET_QUOTE, null]);
});

test('[MUST] what a tightened policy forbids is found among entries that were accepted before', async () => {
  const policy = (digests: Record<string, string[]>) => {
    const { digests: base, ...rest } = JSON.parse(runtimePolicy());
    return base64(JSON.stringify({ ...rest, digests: { boot_aggregate: base.boot_aggregate, ...digests } }));
  };
  const hash = digest('sha256', Buffer.from(ALLOWED)).toString('hex');
  const put = (method: string, text: string) =>
    verifier.ask({ method, path: '/v2.6/allowlists/shared', json: { runtime_policy: text } });
  assert.equal((await put('POST', policy({ [ALLOWED]: [hash] }))).code, 201);
  const agent = await verifier.agent('tightened');
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  await verifier.enrol(agent, { runtime_policy: '', runtime_policy_name: 'shared' });
  await verifier.until('tightened', () => agent.asked.at(-1)?.entry === 2);
  assert.equal((await put('PUT', policy({}))).code, 201);
  const status = await verifier.until('tightened', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.equal(status.operational_state, INVALID_QUOTE);
  assert.equal(status.last_failures[0]?.context.message, `File not found in allowlist: ${ALLOWED}`);
  assert.equal(agent.asked.at(-1)?.entry, 0);
});

test('[MUST] a new enrolment knows nothing of an older one of the same name', async () => {
  const agent = await enrolled('again');
  agent.machine.measure(ALLOWED, Buffer.from(ALLOWED));
  await verifier.until('again', () => agent.asked.at(-1)?.entry === 2);
  assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/again' })).code, 200);
  const before = agent.asked.length;
  await verifier.enrol(agent, { runtime_policy: base64(runtimePolicy({ digests: { [ALLOWED]: ['00'.repeat(32)] } })) });
  const status = await verifier.until('again', ({ operational_state }) => operational_state >= FAILED);
  assert.deepEqual([agent.asked[before]?.entry, agent.asked[before]?.partial], [0, false]);
  assert.equal(status.attestation_count, 0);
});

test('[MUST] what is found about an agent that was deleted does not count for the next one of its name', async () => {
  const first = await verifier.agent('namesake');
  const blocker = await enrolled('blocker');
  const { line } = recordImaNg(ALLOWED, 'sha256', digest('sha256', Buffer.from(ALLOWED)));
  await judgedLate(verifier, { agent: first, blocker, line, begin: () => verifier.enrol(first) });
  assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/namesake' })).code, 200);
  const second = await verifier.agent('namesake');
  second.lie({ respond: () => {} });
  await verifier.enrol(second);
  assert.deepEqual(verifier.outcomes('namesake'), [], 'the first one is still being judged');
  await verifier.until('namesake', () => verifier.outcomes('namesake').length > 0);
  assert.deepEqual(verifier.outcomes('namesake'), ['affirming']);
  // Writes are made in their order: after this one, that of the round was made or refused.
  const later = { method: 'POST', path: '/v2.6/allowlists/later', json: { runtime_policy: base64(runtimePolicy()) } };
  assert.equal((await verifier.ask(later)).code, 201);
  const status = await verifier.status('namesake');
  assert.deepEqual([status.attestation_count, status.operational_state, status.hash_alg], [0, 1, '']);
});
