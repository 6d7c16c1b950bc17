import assert from 'node:assert/strict';
import { test } from 'node:test';
import { viewOf } from '@keylime/core/bytes-view';
import fc from 'fast-check';
import { hashOf, StringTable } from './string-table.ts';

const texts = fc.oneof(
  fc.constantFrom(
    '',
    'a',
    'b',
    'aa',
    'ab',
    'abcd',
    'abcde',
    'é',
    '\ud800',
    '\udc80',
    '\ufffd',
    '\u{1f511}',
    '\ufeffx',
    '\0',
  ),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
  fc.string({ unit: 'binary', maxLength: 12 }),
);
const maps = fc
  .array(fc.tuple(texts, fc.array(texts, { minLength: 1, maxLength: 4 })), { maxLength: 40 })
  .map((entries) => new Map<string, readonly string[]>(entries));

test('a table says what a map of the same says, and so does one that has its memory', () => {
  fc.assert(
    fc.property(maps, fc.array(texts), (map, others) => {
      const made = StringTable.of(map);
      for (const table of [made, new StringTable(structuredClone(made.shared))]) {
        assert.deepEqual(new Map(table), map);
        assert.equal(table.size, map.size);
        assert.deepEqual(new Set(table.keys()), new Set(map.keys()));
        const asked = [...map.keys(), ...others, ...[...map.keys()].map((name) => `${name}x`)];
        const values = [...[...map.values()].flat(), ...others];
        for (const name of asked) {
          assert.deepEqual(table.get(name), map.get(name));
          assert.equal(table.has(name), map.has(name));
          for (const value of values)
            assert.equal(table.includes(name, value), map.get(name)?.includes(value) ?? false);
        }
      }
    }),
    { numRuns: 300 },
  );
});

test('bytes are looked for as the text that they are', () => {
  const name = fc.string({ unit: 'binary-ascii', maxLength: 9 });
  fc.assert(
    fc.property(fc.array(fc.tuple(name, name), { maxLength: 20 }), name, name, fc.nat(5), (entries, one, other, at) => {
      const map = new Map(entries.map(([key, value]) => [key, [value]] as const));
      const table = StringTable.of(map);
      for (const [key, value] of [...entries, [one, other] as const]) {
        const view = viewOf(new ArrayBuffer(64));
        const valueAt = at + view.bytes.write(key, at);
        const valueEnd = valueAt + view.bytes.write(value, valueAt);
        assert.equal(table.includesBytes(view, at, valueAt, valueAt, valueEnd), table.includes(key, value));
      }
    }),
    { numRuns: 300 },
  );
});

test('twenty thousand names are all found, each with its own values, and no others', () => {
  const map = new Map(Array.from({ length: 20_000 }, (_, i) => [`/usr/lib/file-${i}`, [`${i}`, `${i + 1}`]] as const));
  const table = StringTable.of(map);
  for (const [name, values] of map) {
    assert.deepEqual(table.get(name), values);
    assert.equal(table.includes(name, values[0]), true);
    assert.equal(table.includes(name, `${Number(values[0]) + 2}`), false);
    assert.equal(table.has(`${name} `), false);
  }
});

const ASCII = 0x7f7f7f7f;
const textOf = (...words: number[]) => Buffer.from(Int32Array.from(words).buffer).toString('latin1');
const hashOfText = (text: string) => {
  const view = viewOf(new ArrayBuffer(64));
  return hashOf(view, 0, view.bytes.write(text, 'latin1'));
};

/** The number of which `hashOf` makes `hash` when it mixes it: both steps of that can be undone. */
function unmixed(hash: number): number {
  const product = hash ^ (hash >>> 15) ^ (hash >>> 30);
  let inverse = 1;
  for (let i = 0; i < 5; i++) inverse = Math.imul(inverse, 2 - Math.imul(0x9e3779b1, inverse));
  return Math.imul(product, inverse);
}

/** A name of `start`, and behind it eight characters, that has the hash of `name`. */
function alike(start: string, name: string): string {
  for (let i = 0; ; i++) {
    const middle = textOf(Math.imul(i, 0x01030507) & ASCII);
    // The hash of a name of this length up to here, in front of the last word.
    const before = unmixed(hashOfText(`${start}${middle}${textOf(0)}`));
    const last = unmixed(hashOfText(name)) ^ before;
    if ((last & ~ASCII) === 0) return `${start}${middle}${textOf(last)}`;
  }
}

test('names of the same hash are told apart, also where one is the beginning of the other', () => {
  for (const [name, start] of [
    ['/usr/bin/first', '/usr/bin/oth'],
    ['/usr', '/usr'],
    ['/usr/lib/it', '/etc'],
  ] as const) {
    const other = alike(start, name);
    assert.equal(hashOfText(other), hashOfText(name));
    for (const [one, two] of [
      [name, other],
      [other, name],
    ] as const) {
      const alone = StringTable.of([[one, ['1']]]);
      assert.deepEqual([alone.get(one), alone.get(two), alone.includes(two, '1')], [['1'], undefined, false]);
      const both = StringTable.of([
        [one, ['1']],
        [two, ['2']],
      ]);
      assert.deepEqual([both.get(one), both.get(two)], [['1'], ['2']]);
      assert.deepEqual([both.includes(one, '2'), both.includes(two, '2')], [false, true]);
    }
  }
});

test('long names and values, and lists of thousands, have room', () => {
  const long = 'é'.repeat(100_000);
  const many = Array.from({ length: 5000 }, (_, i) => (i % 2 === 0 ? `${i}` : `é${i}`));
  const table = StringTable.of([
    [long, [long, 'x']],
    ['many', many],
  ]);
  assert.equal(table.includes(long, long), true);
  assert.deepEqual(table.get(long), [long, 'x']);
  for (const value of many) assert.equal(table.includes('many', value), true);
  for (const value of ['5000', '4999', '\xc3\xa94999', '', 'é']) assert.equal(table.includes('many', value), false);
  assert.equal(table.includes(`${long}é`, long), false);
});
