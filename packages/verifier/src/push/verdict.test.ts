import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { Agent } from '../agent.ts';
import { sampleAgent } from '../testing/sample-agent.ts';
import type { Outcome } from '../transition.ts';
import { type PushSettings, pushTransition, silenceTransition } from './verdict.ts';

const settings: PushSettings = {
  quoteIntervalMs: 2000,
  retry: { maxRetries: 2, intervalSeconds: 2, exponential: true },
  severity: {
    labels: ['info', 'emergency'],
    rules: [
      { matches: (id) => id.startsWith('ima.') || id.startsWith('internal.'), label: 'info' },
      { matches: () => true, label: 'emergency' },
    ],
  },
  silenceMs: 10_000,
  recoversByItself: false,
};
const NOW = 1_700_000_000_000;
const declared = { hash: 'sha256', encryption: 'ecc256', signing: 'ecdsa' };
const progress = { nextEntry: 4 };
const passed: Outcome = { kind: 'affirming', progress, declared, uncertifiedEntries: 0 };
const inconclusive: Outcome = { kind: 'inconclusive', progress, reason: 'policy_changed' };
const unjudged: Outcome = { kind: 'unjudged', progress, reason: 'it is not in the database' };
const failing = (eventId: string, recoverable = true): Outcome => ({
  ...{ kind: 'contraindicated', progress, declared },
  events: [{ eventId, recoverable, context: { message: eventId } }],
});
const lesser = failing('ima.small');
const grave = failing('pcr_validation.invalid_pcr_7');

/** What one outcome after the other makes of an enrolled agent. */
function after(outcomes: readonly Outcome[], agent: Agent = sampleAgent(), how = settings): Agent {
  let now = agent;
  for (const outcome of outcomes) now = { ...now, ...pushTransition(now, outcome, how, NOW).record };
  return now;
}
const ids = (events: readonly FailureEvent[]) => events.map(({ eventId }) => eventId);

for (const [name, stopping] of [
  ['of the highest severity', grave],
  ['that ended the checks', failing('ima.small', false)],
] as const) {
  test(`[MUST] a failure ${name} waits for an operator, whatever lesser ones follow it`, () => {
    const later: readonly Outcome[][] = [
      [passed],
      [lesser, passed],
      [lesser, lesser, passed, lesser, passed, passed],
      [unjudged, unjudged, unjudged, passed],
    ];
    for (const outcomes of later)
      assert.equal(after([stopping, ...outcomes]).state.replace('failed', 'invalidQuote'), 'invalidQuote');
  });
}

test('the failure that waits is kept beside the newest, and is told of once', () => {
  const failed = after([grave]);
  const next = pushTransition(failed, lesser, settings, NOW);
  assert.deepEqual(ids(next.record.lastFailures), ['pcr_validation.invalid_pcr_7', 'ima.small']);
  assert.equal(next.notification, undefined);
  const many = after(
    Array.from({ length: 50 }, () => lesser),
    failed,
  );
  assert.deepEqual(ids(many.lastFailures), ['pcr_validation.invalid_pcr_7', 'ima.small']);
  assert.deepEqual(ids(after([failing('tpm.other', false)], failed).lastFailures), ['tpm.other']);
});

test('a lesser failure ends with the next pass, also one after a failure that ended before', () => {
  assert.equal(after([lesser, passed]).state, 'getQuote');
  const recovering = { ...settings, recoversByItself: true };
  const recovered = after([grave, passed], sampleAgent(), recovering);
  assert.deepEqual([recovered.state, recovered.severityLevel], ['getQuote', undefined]);
  assert.deepEqual(ids(after([lesser], recovered).lastFailures), ['ima.small']);
});

test('[MUST] what this service could not judge revokes nobody: an agent that passed before is told of as missed', () => {
  const agent = after([passed, unjudged, unjudged]);
  assert.equal(agent.state, 'getQuote');
  const next = pushTransition(agent, unjudged, settings, NOW);
  assert.equal(next.notification?.type, 'comm_error');
  assert.equal(next.record.lastFailures[0]?.eventId, 'internal.verifier.not_judged');
});

test('[MUST] only evidence that was judged ends a silence, and one silence is told of once', () => {
  const told = silenceTransition(after([passed]), settings);
  assert.equal(told.notification?.type, 'comm_error');
  const silent: Agent = { ...sampleAgent(), ...told.record };
  for (const outcome of [inconclusive, unjudged]) {
    const { silent: still, attestByMs } = after([outcome], silent);
    assert.deepEqual([still, attestByMs], [true, undefined]);
  }
  for (const outcome of [passed, lesser]) {
    const { silent: still, attestByMs } = after([outcome], silent);
    assert.deepEqual([still, attestByMs], [false, NOW + settings.silenceMs]);
  }
  assert.equal(after([inconclusive]).attestByMs, NOW + settings.silenceMs, 'who is not missed yet has its time anew');
});
