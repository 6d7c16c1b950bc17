import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boundProblems } from './bounds.ts';

const GOOD = { bootstrap_ms: 500, detected_ms: 1, reported_ms: 2, peer_notified_ms: 1000, boot_detected_ms: 3 };

test('times within the bounds are no problem, and the bounds themselves are within', () => {
  assert.deepEqual(boundProblems(GOOD, 1), []);
});

test('every figure that is over its bound is named with it, and patience moves the bounds', () => {
  const slow = { ...GOOD, bootstrap_ms: 501, peer_notified_ms: 1500 };
  assert.deepEqual(boundProblems(slow, 1), [
    'bootstrap_ms is 501 and must be at most 500',
    'peer_notified_ms is 1500 and must be at most 1000',
  ]);
  assert.deepEqual(boundProblems(slow, 2), []);
});

test('a figure that is missing or no number is a problem', () => {
  const { bootstrap_ms: _, ...rest } = GOOD;
  assert.deepEqual(boundProblems({ ...rest, peer_notified_ms: Number.NEGATIVE_INFINITY }, 100), [
    'bootstrap_ms was not measured',
    'peer_notified_ms was not measured',
  ]);
});
