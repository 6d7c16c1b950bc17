import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest, extend } from '@keylime/core/digest';
import fc from 'fast-check';
import { ExtendSequence } from './extend-sequence.ts';
import { BATCH } from './list-memory.ts';
import { type ExtendSteps, runSideBySide } from './side-by-side.ts';

const ZEROS = Buffer.alloc(32);
const digestOf = (text: string) => digest('sha256', Buffer.from(text));

function wordsOf(digests: readonly Buffer[]): Uint32Array {
  const all = Buffer.concat(digests);
  return Uint32Array.from({ length: all.length / 4 }, (_, i) => all.readUInt32BE(4 * i));
}

/** The values of a PCR, the one before the first extend among them. */
function valuesOf(digests: readonly Buffer[]): readonly Buffer[] {
  const values: Buffer[] = [ZEROS];
  for (const one of digests) values.push(extend('sha256', values.at(-1) as Buffer, one));
  return values;
}

type Asked = { readonly name: string; readonly counts: readonly number[]; readonly quotedAfter: number | undefined };

/** Extends by as many digests as each of `counts` says, one after the other, up to the quoted value. */
function* extended({ name, counts, quotedAfter }: Asked) {
  const digests = counts.flatMap((count, i) => Array.from({ length: count }, (_, j) => digestOf(`${name} ${i} ${j}`)));
  const values = valuesOf(digests);
  const sequence = new ExtendSequence(ZEROS, (quotedAfter && values[quotedAfter]) || Buffer.alloc(32, 1));
  let from = 0;
  for (const count of counts) {
    sequence.give(wordsOf(digests.slice(from, from + count)), true);
    yield sequence;
    const matched = sequence.run();
    const to = from + (matched ?? count);
    assert.deepEqual(sequence.pcr, values[to]);
    const first = values.slice(from + 1, to + 1).map((value) => value.readUInt32BE());
    assert.deepEqual([...sequence.values()], first);
    from = to;
    if (matched !== undefined) break;
  }
  return from;
}

function together(asked: readonly Asked[]): readonly unknown[] {
  const found: unknown[] = [];
  runSideBySide(asked.map(extended), (number, result) => {
    found[number] = 'error' in result ? result.error : result.value;
  });
  return found;
}

const expected = ({ counts, quotedAfter }: Asked) => quotedAfter || counts.reduce((sum, count) => sum + count, 0);

test('extends of several lists at once are those of each alone, wherever the quoted values are', () => {
  const counts = fc.array(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 4 });
  const one = counts.chain((all) =>
    fc.record({
      name: fc.string(),
      counts: fc.constant(all),
      quotedAfter: fc.option(fc.integer({ min: 0, max: all.reduce((sum, count) => sum + count, 0) }), {
        nil: undefined,
      }),
    }),
  );
  fc.assert(
    fc.property(fc.array(one, { maxLength: 9 }), (asked) => assert.deepEqual(together(asked), asked.map(expected))),
    { numRuns: 300 },
  );
});

test('a whole batch of each of four, and one of a part of it', () => {
  const asked = [BATCH, BATCH, 3, BATCH].map((count, i) => ({
    name: `list ${i}`,
    counts: [count, 1],
    quotedAfter: i === 3 ? BATCH - 1 : undefined,
  }));
  assert.deepEqual(together(asked), [BATCH + 1, BATCH + 1, 4, BATCH - 1]);
});

test('a value that only begins as the quoted one is no match', () => {
  const digests = [digestOf('a'), digestOf('b'), digestOf('c')];
  const [, , second] = valuesOf(digests) as readonly [Buffer, Buffer, Buffer];
  for (const alike of [8, 16, 31]) {
    const quoted = Buffer.from(second);
    quoted[alike] = (quoted[alike] as number) ^ 1;
    const sequences = [quoted, Buffer.from(second)].map((one) => new ExtendSequence(ZEROS, one));
    const steps = sequences.map(function* (sequence): ExtendSteps<number | undefined> {
      sequence.give(wordsOf(digests), false);
      yield sequence;
      return sequence.run();
    });
    const found: unknown[] = [];
    runSideBySide(steps, (number, result) => {
      found[number] = 'value' in result && result.value;
    });
    assert.deepEqual(found, [undefined, 2], `${alike} bytes`);
  }
});

test('one that throws stops none of the others, and each is told when it ends', () => {
  const order: unknown[] = [];
  function* counted(steps: number): ExtendSteps<string> {
    for (let i = 0; i < steps; i++) yield;
    if (steps === 2) throw new RangeError('two');
    return `${steps} steps`;
  }
  runSideBySide([3, 1, 2].map(counted), (number, result) =>
    order.push([number, 'error' in result ? `${result.error}` : result.value]),
  );
  assert.deepEqual(order, [
    [1, '1 steps'],
    [2, 'RangeError: two'],
    [0, '3 steps'],
  ]);
});
