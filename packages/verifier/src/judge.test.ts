import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ExtendSteps } from '@keylime/ima/side-by-side';
import { timeFor } from './judge.ts';

test('the time of others between the steps does not count, its own does', () => {
  let now = 0;
  const { hasTime, ranOut, spentIn } = timeFor(60, () => now);
  const found: boolean[] = [];
  function* steps(): ExtendSteps<string> {
    for (let i = 0; i < 4; i++) {
      found.push(hasTime());
      now += 25;
      yield;
    }
    return 'end';
  }
  const spent = spentIn(steps());
  for (let step = spent.next(); !step.done; step = spent.next()) now += 100;
  assert.deepEqual(found, [true, true, true, false]);
  assert.equal(ranOut(), true);
});
