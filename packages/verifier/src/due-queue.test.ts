import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { dueQueue } from './due-queue.ts';

test('whatever goes in comes out by time, and in order of arrival at the same time', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 20 })), (times) => {
      const queue = dueQueue<number>();
      for (const [n, due] of times.entries()) queue.push(due, n);
      const out = times.map(() => queue.pop()?.value);
      const sorted = times.map((due, n) => ({ due, n })).sort((a, b) => a.due - b.due || a.n - b.n);
      assert.deepEqual(
        out,
        sorted.map(({ n }) => n),
      );
      assert.equal(queue.size(), 0);
    }),
  );
});

test('an empty queue has nothing', () => {
  const queue = dueQueue<number>();
  assert.equal(queue.peek(), undefined);
  assert.equal(queue.pop(), undefined);
});
