import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FailureEvent } from './event.ts';
import { type SeverityPolicy, severityOf, worstEvent } from './severity.ts';

const policy: SeverityPolicy = {
  labels: ['info', 'warning', 'emergency'],
  rules: [
    { matches: (id) => id === 'ima.small', label: 'info' },
    { matches: (id) => id.startsWith('ima.'), label: 'warning' },
    { matches: (id) => id === 'odd', label: 'unheard of' },
  ],
};
const event = (eventId: string, recoverable = true): FailureEvent => ({ eventId, recoverable, context: {} });

test('the first rule that matches decides', () => {
  assert.equal(severityOf(policy, event('ima.small')), 0);
  assert.equal(severityOf(policy, event('ima.other')), 1);
});

test('no rule, an unknown label, and an event that ended the checks are of the highest severity', () => {
  assert.equal(severityOf(policy, event('pcr')), 2);
  assert.equal(severityOf(policy, event('odd')), 2);
  assert.equal(severityOf(policy, event('ima.small', false)), 2);
});

test('the worst event is the first of the highest severity', () => {
  const events = [event('ima.small'), event('ima.b'), event('ima.c')] as const;
  assert.deepEqual(worstEvent(policy, events), { event: events[1], severity: 1 });
});
