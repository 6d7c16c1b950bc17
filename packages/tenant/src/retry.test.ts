import assert from 'node:assert/strict';
import test from 'node:test';
import { retrySeconds, withRetries } from './retry.ts';

const settings = { attempts: 5, intervalSeconds: 2, exponential: true };

test('the wait grows with the attempt, or stays the interval', () => {
  assert.deepEqual(
    [1, 2, 3, 4, 20].map((n) => retrySeconds(settings, n)),
    [2, 4, 8, 16, 300],
  );
  assert.deepEqual(
    [1, 4].map((n) => retrySeconds({ ...settings, exponential: false }, n)),
    [2, 2],
  );
  assert.equal(retrySeconds({ ...settings, intervalSeconds: 0.5 }, 3), 0.5);
});

test('an attempt is repeated until it succeeds, with a wait before each repetition', async () => {
  const waits: number[] = [];
  const told: string[] = [];
  let left = 3;
  const result = await withRetries(
    { ...settings, sleep: async (ms) => waits.push(ms) },
    async () => (left-- > 0 ? 'again' : { done: true }),
    (n, seconds) => told.push(`${n}:${seconds}`),
  );
  assert.deepEqual(result, { value: { done: true }, failures: 3 });
  assert.deepEqual(waits, [2000, 4000, 8000]);
  assert.deepEqual(told, ['1:2', '2:4', '3:8']);
});

test('after the last attempt there is no wait, and no result', async () => {
  const waits: number[] = [];
  const sleep = async (ms: number) => waits.push(ms);
  assert.equal(
    await withRetries(
      { ...settings, attempts: 2, sleep },
      async () => 'again',
      () => {},
    ),
    undefined,
  );
  assert.deepEqual(waits, [2000]);
});
