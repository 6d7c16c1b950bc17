import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clockProblems, wasReset } from './clock.ts';

const before = { clock: 1000n, resetCount: 5, restartCount: 3, safe: true };
const kinds = (after: Partial<typeof before>) =>
  clockProblems(before, { ...before, clock: 1001n, ...after }).map((problem) => problem.kind);

test('a clock that moved is fine, also the first one ever', () => {
  assert.deepEqual(kinds({}), []);
  assert.deepEqual(clockProblems(undefined, { ...before, clock: 0n }), []);
});

test('a clock that stands still or goes back is reported', () => {
  assert.deepEqual(kinds({ clock: 1000n }), ['clock_not_advanced']);
  assert.deepEqual(kinds({ clock: 999n, safe: false }), ['clock_unsafe', 'clock_not_advanced']);
  assert.deepEqual(kinds({ clock: 999n, resetCount: 6, restartCount: 0 }), ['clock_not_advanced']);
});

test('a reboot after a suspend lowers restartCount legally', () => {
  assert.deepEqual(kinds({ resetCount: 6, restartCount: 0 }), []);
  assert.equal(wasReset(before, { ...before, resetCount: 6 }), true);
  assert.equal(wasReset(before, { ...before, restartCount: 4 }), false);
  assert.equal(wasReset(undefined, before), false);
});

test('within one boot restartCount does not go down, and resetCount never does', () => {
  assert.deepEqual(kinds({ restartCount: 2 }), ['clock_restart_count_decreased']);
  assert.deepEqual(kinds({ resetCount: 4, restartCount: 9 }), ['clock_reset_count_decreased']);
});

test('after a power loss the clock may lag, and says so itself: recoverable', () => {
  const problems = clockProblems(before, { clock: 900n, resetCount: 6, restartCount: 0, safe: false });
  assert.deepEqual(problems, [{ kind: 'clock_unsafe', recoverable: true }]);
});

test('what cannot be recovered from says so', () => {
  const [problem] = clockProblems(before, { ...before, clock: 5n });
  assert.deepEqual(problem, { kind: 'clock_not_advanced', recoverable: false, previous: 1000n, current: 5n });
});
