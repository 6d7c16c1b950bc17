import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { digest } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  assertFails,
  FAILED,
  GET_QUOTE,
  INVALID_QUOTE,
  judgedLate,
  STOPPED,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * What an operator decides is not undone by a round that is under way, a failure does not heal by itself, and a failure of
 * lesser severity neither stops nor hurries attestation.
 */
let verifier: AttackedVerifier;
before(async () => {
  verifier = await startAttackedVerifier({
    settings: {
      quote_interval: '0.1',
      severity_labels: "['info', 'notice', 'emergency']",
      severity_policy: `[{"event_id": "ima\\\\.validation\\\\..*not_in_allowlist", "severity_label": "info"},
        {"event_id": "ima\\\\..*", "severity_label": "notice"}]`,
    },
  });
});
after(() => verifier?.stop());

const [ALLOWED = ''] = ALLOWED_FILES;
const entry = recordImaNg(ALLOWED, 'sha256', digest('sha256', Buffer.from(ALLOWED)));

const put = (id: string, what: string) => verifier.ask({ method: 'PUT', path: `/v2.6/agents/${id}/${what}` });
const remove = (id: string) => verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${id}` });

async function enrolled(id: string): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

let blockers = 0;

/** Runs `action` while an answer of the agent waits to be judged, and then waits for that round to be over. */
async function whileJudged(agent: LyingAgent, action: () => Promise<unknown>): Promise<void> {
  const blocker = await enrolled(`blocker-${blockers++}`);
  await judgedLate(verifier, { agent, blocker, line: entry.line });
  const before = verifier.outcomes(agent.id).length;
  await action();
  assert.equal(verifier.outcomes(agent.id).length, before, 'the round was not over yet');
  for (let n = 0; n < 2000 && verifier.outcomes(agent.id).length === before; n++) await sleep(5);
  assert.equal(verifier.outcomes(agent.id).at(before), 'affirming');
  await letTimePass();
}

/** Waits until another agent was attested some times: rounds that were still to come have come. */
async function letTimePass(): Promise<void> {
  const id = 'clock';
  if ((await verifier.ask({ path: `/v2.6/agents/${id}` })).code === 404) await enrolled(id);
  const { attestation_count: count } = await verifier.status(id);
  await verifier.until(id, ({ attestation_count }) => attestation_count > count + 3);
}

test('[MUST] a round under way does not undo stop', async () => {
  const agent = await enrolled('stopped');
  let stopped = 0;
  await whileJudged(agent, async () => {
    assert.equal((await put('stopped', 'stop')).code, 200);
    stopped = (await verifier.status('stopped')).attestation_count;
  });
  const status = await verifier.status('stopped');
  assert.deepEqual([status.operational_state, status.attestation_count], [STOPPED, stopped]);
  const asked = agent.asked.length;
  await letTimePass();
  assert.equal(agent.asked.length, asked);
});

test('[MUST] a round under way does not bring back a deleted agent', async () => {
  const agent = await enrolled('deleted');
  await whileJudged(agent, async () => assert.equal((await remove('deleted')).code, 200));
  const { code, status } = await verifier.ask({ path: '/v2.6/agents/deleted' });
  assert.deepEqual([code, status], [404, 'agent id not found']);
  assert.equal((await remove('deleted')).code, 404);
});

test('an agent that is stopped while it is asked is left alone at once', async () => {
  const agent = await enrolled('hanging');
  const arrived = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  agent.lie({
    respond: (request) => {
      request.socket.once('close', () => closed.resolve());
      arrived.resolve();
    },
  });
  await arrived.promise;
  assert.equal((await put('hanging', 'stop')).code, 200);
  await closed.promise;
  assert.equal((await verifier.status('hanging')).operational_state, STOPPED);
  assert.doesNotMatch(verifier.log(), /a fault of this service/);
});

test('a stopped agent is asked again after reactivation, from the first entry on', async () => {
  const agent = await enrolled('resumed');
  await put('resumed', 'stop');
  await letTimePass();
  const asked = agent.asked.length;
  assert.equal((await put('resumed', 'reactivate')).code, 200);
  await verifier.until('resumed', ({ operational_state }) => operational_state === GET_QUOTE);
  assert.equal(agent.asked[asked]?.entry, 0);
});

test('[MUST] a failed agent stays failed, however truthful it becomes, until it is reactivated', async () => {
  const agent = await enrolled('penitent');
  agent.lie({ quote: (truth) => agent.ak.quote({ ...truth, nonce: Buffer.from('x') }) });
  await assertFails(verifier, agent, { event: 'qoute_validation.quote_validation', message: /nonce/ });
  agent.lie();
  const asked = agent.asked.length;
  await letTimePass();
  assert.equal(agent.asked.length, asked, 'it is asked no more');
  assert.equal((await verifier.status('penitent')).operational_state, INVALID_QUOTE);
  assert.equal((await put('penitent', 'reactivate')).code, 200);
  const status = await verifier.until('penitent', ({ operational_state }) => operational_state === GET_QUOTE);
  assert.deepEqual([status.last_event_id, status.severity_level, status.last_failures], [null, null, []]);
  assert.equal(agent.asked[asked]?.entry, 0);
});

test('an agent that was not reachable is asked again after reactivation, and fails again', async () => {
  const agent = await enrolled('absent');
  agent.lie({ respond: (request) => request.socket.destroy() });
  for (let time = 0; time < 2; time++) {
    const status = await verifier.until('absent', ({ operational_state }) => operational_state === FAILED);
    assert.equal(status.last_event_id, 'internal.verifier.not_reachable');
    assert.equal((await put('absent', 'reactivate')).code, 200);
    const again = await verifier.status('absent');
    if (time === 0) assert.notEqual(again.operational_state, FAILED);
  }
});

test('reactivating an agent that is attested starts no second round', async () => {
  const agent = await enrolled('busy');
  for (let n = 0; n < 5; n++) assert.equal((await put('busy', 'reactivate')).code, 200);
  await letTimePass();
  assert.ok(
    agent.asked.slice(1).every(({ entry }) => entry === 1),
    'it goes on where it was',
  );
});

test('who is not there cannot be stopped, reactivated or deleted', async () => {
  for (const answer of [await put('nobody', 'stop'), await put('nobody', 'reactivate'), await remove('nobody')]) {
    assert.deepEqual([answer.code, answer.status], [404, 'agent id not found']);
  }
});

test('[MUST] a failure of lesser severity goes on at the interval, and the worst one stays on record', async () => {
  const agent = await enrolled('lesser');
  const started = performance.now();
  const asked = agent.asked.length;
  agent.lie({
    // The list as it is, with a file that is not allowed, once in the quote as well.
    quote: (truth) => agent.ak.quote(truth),
    results: (truth) => ({ ...truth, ima_measurement_list: `${truth.ima_measurement_list}10 00 ima-ng bad\n` }),
  });
  agent.machine.measure('/usr/bin/unknown', Buffer.from('x'));
  const failing = await verifier.until('lesser', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.equal(failing.severity_level, 0);
  assert.equal(failing.last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
  const count = failing.attestation_count;
  await letTimePass();
  const rounds = agent.asked.length - asked;
  const most = (performance.now() - started) / 100 + 2;
  assert.ok(rounds > 2, 'it is asked on');
  assert.ok(rounds <= most, `${rounds} rounds, at the interval no more than ${most}`);
  const still = await verifier.status('lesser');
  assert.deepEqual([still.operational_state, still.attestation_count], [INVALID_QUOTE, count]);

  agent.machine.append('10 00 ima-ng bad\n', Buffer.alloc(32));
  const worse = await verifier.until('lesser', ({ severity_level }) => severity_level === 1);
  assert.equal(worse.last_event_id, 'ima.parser.entry');

  agent.machine.reboot();
  agent.lie();
  const good = await verifier.until('lesser', ({ operational_state }) => operational_state === GET_QUOTE);
  assert.deepEqual([good.severity_level, good.last_event_id], [1, 'ima.parser.entry']);
  agent.machine.measure('/usr/bin/unknown', Buffer.from('x'));
  const again = await verifier.until('lesser', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.deepEqual([again.severity_level, again.last_event_id], [1, 'ima.parser.entry']);
});

test('[MUST] a failure that no rule knows, and one that ends the checks, are of the highest severity', async () => {
  const agent = await enrolled('unruled');
  agent.lie({ quote: (truth) => agent.ak.quote({ ...truth, bindingPublicKeyPem: 'attacker' }) });
  const status = await assertFails(verifier, agent, { event: 'pcr_validation.invalid_pcr_16', message: /PCR 16/ });
  assert.equal(status.severity_level, 2);
});
