import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Outcome } from '../transition.ts';
import type { Attestation } from './attestation.ts';
import { remainingOf, remembering } from './remaining.ts';

const body = Buffer.from(
  JSON.stringify({
    results: { quote: 'r', ima_measurement_list: 'five\n\nsix\nseven\n', ima_measurement_list_entry: 5 },
  }),
);
const clock = { clock: 9n, resetCount: 1, restartCount: 0, safe: true };
const progress = { nextEntry: 7, clock, quoteProgress: { matched: 2, length: 3 }, policyChecksum: 'p', bootTime: 3 };
const attestation = (startingEntry: number, imaLogJudgedTo?: number) =>
  ({
    chosen: { imaLog: { startingEntry, offeredEntries: 8 } },
    collected: { message: '', signature: '', subjectData: '', ...(imaLogJudgedTo !== undefined && { imaLogJudgedTo }) },
  }) as Pick<Attestation, 'chosen' | 'collected'>;

test('evidence of which nothing was judged is judged whole', () => {
  const before = { ...progress, nextEntry: 5 };
  assert.deepEqual(remainingOf(attestation(5), body, before, 'p'), { body, firstEntry: 5, progress: before });
});

test('[MUST] what earlier rounds judged is left out, and their quote is not compared with itself', () => {
  const remaining = remainingOf(attestation(5, 7), body, progress, 'p');
  const { results } = JSON.parse(remaining.body.toString());
  assert.deepEqual(results, { quote: 'r', ima_measurement_list: 'seven\n', ima_measurement_list_entry: 7 });
  assert.equal(remaining.firstEntry, 7);
  assert.deepEqual(remaining.progress, { nextEntry: 7, policyChecksum: 'p', bootTime: 3 });
});

test('[MUST] nothing is left out where the progress is another one, or another policy judged', () => {
  for (const [now, checksum] of [
    [{ ...progress, nextEntry: 0 }, 'p'],
    [progress, 'q'],
  ] as const) {
    const remaining = remainingOf(attestation(0, 7), body, now, checksum);
    assert.deepEqual([remaining.body, remaining.firstEntry, remaining.progress.clock], [body, 0, undefined]);
  }
});

test('[MUST] the clock that was seen is never forgotten', () => {
  const outcome = (next: Outcome & { readonly kind: 'unjudged' }) => {
    const kept = remembering(next, progress);
    return 'progress' in kept ? kept.progress : undefined;
  };
  const unjudged = { kind: 'unjudged', reason: 'r' } as const;
  const { clock: _clock, quoteProgress: _quoteProgress, ...compared } = progress;
  assert.deepEqual(outcome({ ...unjudged, progress: compared }), progress);
  assert.deepEqual(outcome({ ...unjudged, progress: { nextEntry: 0 } }), { nextEntry: 0, clock, bootTime: 3 });
  const newer = { nextEntry: 8, clock: { ...clock, clock: 10n } };
  assert.equal(outcome({ ...unjudged, progress: newer }), newer);
});
