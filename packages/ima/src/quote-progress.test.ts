import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makesProgress, type QuoteProgress } from './quote-progress.ts';

const sequences: readonly (readonly [matched: number, length: number, ok: boolean])[][] = [
  [
    [9, 10, true],
    [0, 1, false],
    [1, 1, true],
  ],
  [
    [10, 10, true],
    [0, 1, true],
    [0, 1, false],
    [0, 0, true],
  ],
  [
    [10, 10, true],
    [0, 1, true],
    [1, 2, true],
    [0, 1, false],
    [2, 2, true],
  ],
  [
    [10, 12, true],
    [1, 2, false],
  ],
];

for (const sequence of sequences) {
  test(`quotes ${sequence.map(([m, n]) => `${m}/${n}`).join(', ')} are judged as they always were`, () => {
    let previous: QuoteProgress | undefined;
    for (const [matched, length, ok] of sequence) {
      assert.equal(makesProgress(previous, { matched, length }), ok, `${matched} of ${length}`);
      previous = { matched, length };
    }
  });
}

test('the first quote after a reset may lag behind any list', () => {
  assert.equal(makesProgress(undefined, { matched: 0, length: 1000 }), true);
});
