import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Json, parseJsonWithin } from './json.ts';

/** Lists, objects and all members but the first of each. */
function parts(value: Json): number {
  if (typeof value !== 'object' || value === null) return 0;
  const members = Object.values(value);
  return 1 + Math.max(0, members.length - 1) + members.reduce((sum: number, member) => sum + parts(member), 0);
}

test('[property] JSON with as many parts as allowed is read, and with one more is not', () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.option(fc.nat(3), { nil: undefined }), (value, space) => {
      const bytes = Buffer.from(JSON.stringify(value, undefined, space));
      const count = parts(value as Json);
      assert.deepEqual(parseJsonWithin(count, bytes), JSON.parse(bytes.toString()));
      if (count > 0) assert.equal(parseJsonWithin(count - 1, bytes), undefined);
    }),
  );
});

test('what is inside of a text counts for nothing, escaped quotes and backslashes among it', () => {
  for (const text of ['[{,', '"[,', '\\', '\\"[', '\\\\"[,{', '"']) {
    assert.deepEqual(parseJsonWithin(1, Buffer.from(JSON.stringify([text]))), [text]);
  }
});

test('what is no JSON is undefined', () => {
  for (const text of ['', '"', '"\\"', '[', '{"a":}', 'nul'])
    assert.equal(parseJsonWithin(10, Buffer.from(text)), undefined);
});
