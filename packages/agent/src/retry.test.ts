import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRetryAfter, RetryLater, retryDelayMs, withRetries } from './retry.ts';

const backoff = { initialDelayMs: 10_000, maxRetries: 5, maxDelayMs: 300_000 };

function recorder() {
  const delays: number[] = [];
  return { delays, hooks: { sleep: async (ms: number) => void delays.push(ms), onRetry: () => {} } };
}

test('delays double up to the largest one, and after the last retry the failure is thrown', async () => {
  const { delays, hooks } = recorder();
  let attempts = 0;
  const failing = async () => {
    attempts++;
    throw new RetryLater('down');
  };
  await assert.rejects(withRetries(failing, backoff, hooks), { code: 'retry_later' });
  assert.equal(attempts, 6);
  assert.deepEqual(delays, [10_000, 20_000, 40_000, 80_000, 160_000]);
  assert.equal(retryDelayMs(backoff, 5), 300_000);
  assert.equal(retryDelayMs(backoff, 1_000_000), 300_000);
});

test('what cannot get better is not tried again', async () => {
  const { delays, hooks } = recorder();
  const refuse = async () => {
    throw new TypeError('no');
  };
  await assert.rejects(withRetries(refuse, backoff, hooks), TypeError);
  assert.deepEqual(delays, []);
});

test('the other side may ask for another delay, but not for more than the largest', async () => {
  const { delays, hooks } = recorder();
  const wishes = [3000, 10 ** 9];
  const result = await withRetries(
    async () => {
      const afterMs = wishes.shift();
      if (afterMs !== undefined) throw new RetryLater('busy', { afterMs });
      return 'done';
    },
    backoff,
    hooks,
  );
  assert.equal(result, 'done');
  assert.deepEqual(delays, [3000, 300_000]);
});

test('Retry-After is seconds or a date', () => {
  const now = Date.parse('Wed, 21 Oct 2026 07:28:00 GMT');
  assert.equal(parseRetryAfter('120', now), 120_000);
  assert.equal(parseRetryAfter('Wed, 21 Oct 2026 07:28:30 GMT', now), 30_000);
  assert.equal(parseRetryAfter('Wed, 21 Oct 2026 07:27:30 GMT', now), 0);
  for (const text of ['', '-1', '1.5', 'soon']) assert.equal(parseRetryAfter(text, now), undefined, text);
  assert.equal(parseRetryAfter(undefined, now), undefined);
});
