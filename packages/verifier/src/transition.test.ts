import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { NonEmpty } from '@keylime/core/non-empty';
import type { Agent } from './agent.ts';
import { sampleAgent } from './testing/sample-agent.ts';
import { afterRelease, type EngineSettings, type Outcome, recipientOf, transition } from './transition.ts';

const settings: EngineSettings = {
  quoteIntervalMs: 2000,
  retry: { maxRetries: 2, intervalSeconds: 2, exponential: true },
  severity: {
    labels: ['info', 'emergency'],
    rules: [
      { matches: (id) => id.startsWith('ima.'), label: 'info' },
      { matches: () => true, label: 'emergency' },
    ],
  },
};
const NOW = 1_700_000_000;
const declared = { hash: 'sha256', encryption: 'ecc256', signing: 'ecdsa' };
const passed: Outcome = { kind: 'affirming', progress: { nextEntry: 4 }, declared, uncertifiedEntries: 0 };
const silent: Outcome = { kind: 'unreachable', reason: 'nothing listens there' };
const event = (eventId: string, recoverable = true): FailureEvent => ({
  eventId,
  recoverable,
  context: { message: 'm' },
});
const failing = (...events: NonEmpty<FailureEvent>): Outcome => ({
  kind: 'contraindicated',
  progress: { nextEntry: 0 },
  declared,
  events,
});

test('a pass counts, tells its time and algorithms, and is followed by the interval', () => {
  const { record, nextDelayMs, notification } = transition(sampleAgent(), passed, settings, NOW);
  assert.equal(record.state, 'getQuote');
  assert.equal(record.attestationCount, 1);
  assert.equal(record.lastReceivedQuote, NOW);
  assert.equal(record.lastSuccessfulAttestation, NOW);
  assert.equal(record.hashAlg, 'sha256');
  assert.equal(record.progress.nextEntry, 4);
  assert.equal(nextDelayMs, 2000);
  assert.equal(notification, undefined);
});

test('entries beyond the quote are asked for at once', () => {
  const { nextDelayMs } = transition(sampleAgent(), { ...passed, uncertifiedEntries: 3 }, settings, NOW);
  assert.ok(nextDelayMs !== undefined && nextDelayMs < 100);
});

test('a failure of the highest severity stops polling and is notified, by the worst event', () => {
  const outcome = failing(event('ima.small'), event('pcr_validation.invalid_pcr_7'));
  const { record, nextDelayMs, notification } = transition(sampleAgent(), outcome, settings, NOW);
  assert.equal(record.state, 'invalidQuote');
  assert.equal(nextDelayMs, undefined);
  assert.equal(record.lastEventId, 'pcr_validation.invalid_pcr_7');
  assert.equal(record.severityLevel, 1);
  assert.deepEqual(notification, {
    type: 'revocation',
    event: event('pcr_validation.invalid_pcr_7'),
    severityLabel: 'emergency',
  });
  assert.equal(record.attestationCount, 0);
  assert.equal(record.lastFailures[0]?.eventId, 'pcr_validation.invalid_pcr_7');
});

test('a failure that ended the checks stops polling whatever its rule says', () => {
  const { nextDelayMs, record } = transition(sampleAgent(), failing(event('ima.small', false)), settings, NOW);
  assert.equal(nextDelayMs, undefined);
  assert.equal(record.severityLevel, 1);
});

test('a lesser failure is polled on after the interval, and a pass returns the agent with the worst severity kept', () => {
  const first = transition(sampleAgent(), failing(event('ima.small')), settings, NOW);
  assert.equal(first.record.state, 'invalidQuote');
  assert.equal(first.nextDelayMs, 2000);
  assert.ok(first.notification);
  const agent = { ...sampleAgent(), ...first.record };
  const second = transition(agent, failing(event('ima.small')), settings, NOW);
  assert.equal(second.notification, undefined, 'the same severity again is no news');
  const third = transition(agent, passed, settings, NOW);
  assert.equal(third.record.state, 'getQuote');
  assert.equal(third.record.severityLevel, 0);
  assert.equal(third.record.lastEventId, 'ima.small');
});

test('an agent that does not answer is retried with growing waits, then failed without an alarm if it never passed', () => {
  let agent = sampleAgent();
  const delays: (number | undefined)[] = [];
  for (let n = 0; n < 3; n++) {
    const { record, nextDelayMs, notification } = transition(agent, silent, settings, NOW);
    assert.equal(notification, undefined);
    delays.push(nextDelayMs);
    agent = { ...agent, ...record };
  }
  assert.deepEqual(delays, [2000, 4000, undefined]);
  assert.equal(agent.state, 'failed');
  assert.equal(agent.lastEventId, 'internal.verifier.not_reachable');
});

test('an agent that passed before and does not answer any more is missed', () => {
  const agent = { ...sampleAgent(), attestationCount: 5, unreachableRounds: 2 };
  assert.equal(transition(agent, silent, settings, NOW).notification?.type, 'comm_error');
});

test('an answer forgets the silence before it', () => {
  const agent = { ...sampleAgent(), unreachableRounds: 2 };
  assert.equal(transition(agent, passed, settings, NOW).record.unreachableRounds, 0);
});

test('an inconclusive round is neither pass nor fail, is asked again at once, and too many in a row fail', () => {
  const outcome: Outcome = { kind: 'inconclusive', progress: { nextEntry: 0 }, reason: 'boot_time_changed' };
  let agent: Agent = { ...sampleAgent(), attestationCount: 7, state: 'getQuote' };
  const first = transition(agent, outcome, settings, NOW);
  assert.equal(first.nextDelayMs, 0);
  assert.equal(first.record.attestationCount, 7);
  assert.equal(first.record.state, 'getQuote');
  assert.equal(first.record.lastSuccessfulAttestation, 0);
  agent = { ...agent, ...first.record };
  agent = { ...agent, ...transition(agent, outcome, settings, NOW).record };
  const last = transition(agent, outcome, settings, NOW);
  assert.equal(last.record.state, 'invalidQuote');
  assert.equal(last.nextDelayMs, undefined);
  assert.equal(last.notification?.type, 'revocation');
});

const unfinished = (nextEntry: number): Outcome => ({
  kind: 'unfinished',
  progress: { nextEntry },
  declared,
  unjudgedEntries: 5,
});

test('[MUST] a round that did not reach the end of the list is no pass: what was judged is stored, and the rest asked for', () => {
  const agent = { ...sampleAgent(), unreachableRounds: 2, inconclusiveRounds: 1, progress: { nextEntry: 3 } };
  const { record, nextDelayMs, notification } = transition(agent, unfinished(9), settings, NOW);
  assert.deepEqual([record.progress.nextEntry, record.lastReceivedQuote, record.unreachableRounds], [9, NOW, 0]);
  for (const field of ['state', 'attestationCount', 'lastSuccessfulAttestation', 'inconclusiveRounds'] as const) {
    assert.equal(record[field], agent[field], field);
  }
  assert.ok(nextDelayMs !== undefined && nextDelayMs < 100);
  assert.equal(notification, undefined);
});

test('[MUST] an agent that sends its list from the start over and over, never to be judged to its end, fails', () => {
  let agent: Agent = { ...sampleAgent(), progress: { nextEntry: 9 } };
  for (let round = 0; round < 2; round++) {
    agent = { ...agent, ...transition(agent, unfinished(5), settings, NOW).record };
    assert.equal(agent.state, 'start');
    agent = { ...agent, ...transition(agent, unfinished(9), settings, NOW).record };
  }
  const { record, nextDelayMs } = transition(agent, unfinished(9), settings, NOW);
  assert.deepEqual([record.state, nextDelayMs], ['invalidQuote', undefined]);
});

test('an answer that nobody had time for changes nothing, and is asked for again', () => {
  const agent = { ...sampleAgent(), unreachableRounds: 2, inconclusiveRounds: 2 };
  for (let round = 0; round < 9; round++) {
    const { record, nextDelayMs, notification } = transition(
      agent,
      { kind: 'postponed', reason: 'full' },
      settings,
      NOW,
    );
    assert.deepEqual([record, notification], [agent, undefined]);
    assert.ok(nextDelayMs !== undefined && nextDelayMs >= 1000);
  }
});

test('[MUST] an answer that could not be judged is retried with growing waits, and then a failure that revokes nothing', () => {
  const broken: Outcome = { kind: 'unjudged', progress: { nextEntry: 0 }, reason: 'It took longer than 60000 ms.' };
  let agent: Agent = { ...sampleAgent(), attestationCount: 1 };
  for (const wait of [2000, 4000]) {
    const { record, nextDelayMs } = transition(agent, broken, settings, NOW);
    assert.deepEqual([record.state, nextDelayMs], ['start', wait]);
    agent = { ...agent, ...record };
  }
  const { record, notification, nextDelayMs } = transition(agent, broken, settings, NOW);
  assert.deepEqual([record.state, nextDelayMs], ['failed', undefined]);
  assert.equal(notification?.type, 'comm_error');
  assert.equal(record.lastEventId, 'internal.verifier.not_judged');
  assert.match(String(record.lastFailures[0]?.context.message), /could not be judged in 3 rounds: It took longer/);
  // Where an operator takes it lightly, the agent is asked on, and one verdict mends it.
  const severity = { ...settings.severity, rules: [{ matches: () => true, label: 'info' }] };
  const light = { ...settings, severity };
  const failed = transition(agent, broken, light, NOW);
  assert.deepEqual([failed.record.state, failed.nextDelayMs], ['failed', 2000]);
  assert.equal(transition({ ...agent, ...failed.record }, passed, light, NOW).record.state, 'getQuote');
});

test('a refusal fails at once, without retries, and is notified if the agent passed before', () => {
  const outcome: Outcome = { kind: 'refused', event: event('internal.verifier.no_quote', false) };
  const { record, nextDelayMs, notification } = transition(sampleAgent(), outcome, settings, NOW);
  assert.equal(record.state, 'failed');
  assert.equal(nextDelayMs, undefined);
  assert.equal(notification, undefined);
  const attested = { ...sampleAgent(), attestationCount: 1 };
  assert.equal(transition(attested, outcome, settings, NOW).notification?.type, 'comm_error');
});

test('another API version is remembered and used at once', () => {
  const { record, nextDelayMs } = transition(sampleAgent(), { kind: 'version_changed', version: '2.6' }, settings, NOW);
  assert.equal(record.supportedVersion, '2.6');
  assert.equal(nextDelayMs, 0);
});

test('the list of stored failures is bounded and starts with the worst', () => {
  const many = Array.from({ length: 100 }, (_, n) => event(`ima.${n}`));
  const outcome = failing(event('ima.first'), ...many, event('quote', false));
  const { record } = transition(sampleAgent(), outcome, settings, NOW);
  assert.equal(record.lastFailures.length, 20);
  assert.equal(record.lastFailures[0]?.eventId, 'quote');
  assert.deepEqual(record.lastFailures.at(-1)?.context, { message: 'm', more_failures: 82 });
  const counted = transition(sampleAgent(), { ...outcome, moreEvents: 1000 } as Outcome, settings, NOW).record;
  assert.equal(counted.lastFailures.at(-1)?.context.more_failures, 1082);
  const few = transition(sampleAgent(), failing(event('ima.first')), settings, NOW).record;
  assert.deepEqual(few.lastFailures.at(-1)?.context, { message: 'm' });
});

const clock = { clock: 5n, resetCount: 3, restartCount: 0, safe: true };
const attested = { nextEntry: 4, clock, transportKeyPem: 'one key' };
const attestedOnce: Outcome = { ...passed, progress: attested };
const withShare: Agent = { ...sampleAgent(), sealedKeyShare: 'sealed' };

test('a key share is due after a pass, once for each boot and each transport key', () => {
  const stateAfter = (agent: Agent) => transition(agent, attestedOnce, settings, NOW).record.state;
  assert.equal(stateAfter(withShare), 'provideV');
  assert.equal(stateAfter(sampleAgent()), 'getQuote');
  const given = (to: string) => ({ ...withShare, keyShareRecipient: to });
  assert.equal(stateAfter(given(recipientOf(attested))), 'getQuote');
  assert.equal(stateAfter(given(recipientOf({ ...attested, clock: { ...clock, resetCount: 2 } }))), 'provideV');
  assert.equal(stateAfter(given(recipientOf({ ...attested, transportKeyPem: 'other key' }))), 'provideV');
});

test('[MUST] no key share is due while entries of the list wait for their judgement', () => {
  const { record, nextDelayMs } = transition(withShare, { ...attestedOnce, uncertifiedEntries: 1 }, settings, NOW);
  assert.equal(record.state, 'getQuote');
  assert.ok(nextDelayMs !== undefined && nextDelayMs < 100);
});

test('[MUST] a machine that failed, be it a little, gets its key share when an operator has reactivated it, not before', () => {
  const failed = transition(withShare, failing(event('ima.small')), settings, NOW);
  assert.notEqual(failed.nextDelayMs, undefined, 'it is asked again');
  const agent: Agent = { ...withShare, ...failed.record };
  assert.equal(transition(agent, attestedOnce, settings, NOW).record.state, 'getQuote');
  const reactivated: Agent = { ...agent, severityLevel: undefined };
  assert.equal(transition(reactivated, attestedOnce, settings, NOW).record.state, 'provideV');
});

test('a delivered key share is remembered with its recipient', () => {
  const agent: Agent = { ...withShare, state: 'provideV', progress: attested, keyShareRetries: 2 };
  const { record, nextDelayMs, notification } = afterRelease(agent, { kind: 'delivered' }, settings);
  assert.equal(record.state, 'getQuote');
  assert.equal(record.keyShareRecipient, recipientOf(attested));
  assert.equal(record.keyShareRetries, 0);
  assert.deepEqual([nextDelayMs, notification], [2000, undefined]);
});

test('a key share that nobody takes is tried again after a wait that grows, and then given up and told', () => {
  let agent: Agent = { ...withShare, ...transition(withShare, attestedOnce, settings, NOW).record };
  const waits: (number | undefined)[] = [];
  for (;;) {
    const next = afterRelease(agent, { kind: 'unreachable', reason: 'nobody' }, settings);
    waits.push(next.nextDelayMs);
    if (next.nextDelayMs === undefined) {
      assert.equal(next.record.state, 'failed');
      assert.equal(next.record.lastEventId, 'internal.verifier.not_reachable_v');
      assert.equal(next.notification?.type, 'comm_error');
      break;
    }
    assert.equal(next.record.state, 'provideV');
    // Each attempt follows another pass, which does not make it the first one again.
    agent = { ...agent, ...next.record };
    agent = { ...agent, ...transition(agent, attestedOnce, settings, NOW).record };
  }
  assert.deepEqual(waits, [2000, 4000, undefined]);
});

test('an agent that refuses its key share fails', () => {
  const agent: Agent = { ...withShare, state: 'provideV', progress: attested, attestationCount: 1 };
  const { record, nextDelayMs } = afterRelease(agent, { kind: 'refused', reason: 'no' }, settings);
  assert.deepEqual([record.state, record.lastEventId, nextDelayMs], ['failed', 'internal.verifier.no_v', undefined]);
});
