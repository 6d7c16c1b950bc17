import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runSteps, type Steps } from '@keylime/core/steps';
import { runStepsInTurns } from './steps-in-turns.ts';

function* counted(log: string[], steps: number): Steps<number> {
  for (let i = 0; i < steps; i++) {
    log.push('step');
    yield;
  }
  return steps;
}

test('steps give the same at once and in turns, and others have their turn in between', async () => {
  const log: string[] = [];
  assert.equal(runSteps(counted([], 3)), 3);
  const other = setInterval(() => log.push('other'), 0);
  assert.equal(await runStepsInTurns(slowly(counted(log, 20)), 0), 20);
  clearInterval(other);
  assert.ok(log.indexOf('other') > 0 && log.indexOf('other') < log.lastIndexOf('step'), log.join());
});

/** Each step takes a millisecond, so that timers fall due. */
function* slowly<T>(steps: Steps<T>): Steps<T> {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    for (const end = performance.now() + 1; performance.now() < end; );
    yield;
  }
}

test('what a step throws comes through', async () => {
  function* broken(): Steps<void> {
    yield;
    throw new RangeError('broken');
  }
  assert.throws(() => runSteps(broken()), RangeError);
  await assert.rejects(runStepsInTurns(broken()), RangeError);
});
