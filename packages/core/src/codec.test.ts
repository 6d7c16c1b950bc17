import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Codec,
  constant,
  counted,
  countedBytes,
  DecodeError,
  decode,
  encode,
  fixedBytes,
  flags,
  i32,
  list,
  named,
  nothing,
  paddedBytes,
  restBytes,
  slots,
  struct,
  tagged,
  u8,
  u16,
  u16le,
  u32,
  u32le,
  u64,
  u64le,
  yesNo,
} from './codec.ts';

const Sample = struct({
  magic: constant(u32, 0xff544347),
  kind: named(u16, { one: 1, two: 2 }),
  bits: flags(u32, { low: 0, high: 31 }),
  yes: yesNo,
  big: u64,
  signed: i32,
  little: u16le,
  fixed: fixedBytes(3),
  name: countedBytes(u16, 8),
  inner: counted(u16, struct({ a: u8, rest: restBytes })),
  items: list(u32, u16, 5),
  array: slots(u32le, paddedBytes(u8, 4, 5), 3, 6),
  choice: tagged(named(u8, { empty: 0, full: 1 }), { empty: nothing, full: struct({ value: u16 }) }),
});

const bytes = (max: number) => fc.uint8Array({ maxLength: max }).map((one) => Buffer.from(one));
const sample = fc.record({
  magic: fc.constant(0xff544347 as const),
  kind: fc.constantFrom('one' as const, 'two' as const),
  bits: fc.record({ low: fc.boolean(), high: fc.boolean() }),
  yes: fc.boolean(),
  big: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  signed: fc.integer(),
  little: fc.integer({ min: 0, max: 0xffff }),
  fixed: fc.uint8Array({ minLength: 3, maxLength: 3 }).map((one) => Buffer.from(one)),
  name: bytes(8),
  inner: fc.record({ a: fc.integer({ min: 0, max: 255 }), rest: bytes(9) }),
  items: fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 5 }),
  array: fc.array(bytes(4), { maxLength: 3 }),
  choice: fc.oneof(
    fc.constant({ type: 'empty' as const }),
    fc.record({ type: fc.constant('full' as const), value: fc.integer({ min: 0, max: 0xffff }) }),
  ),
});

/** What `decode` does, with `undefined` for bytes that it refuses properly. */
function tryDecode<T>(codec: Codec<T>, input: Uint8Array): T | undefined {
  try {
    return decode(codec, input);
  } catch (error) {
    assert(error instanceof DecodeError, `${String(error)} instead of a DecodeError`);
    return undefined;
  }
}

test('what is encoded decodes to the same value', () => {
  fc.assert(
    fc.property(sample, (value) => {
      const copy = decode(Sample, encode(Sample, value));
      assert.deepEqual(copy, {
        ...value,
        bits: { ...value.bits },
        inner: { ...value.inner },
        choice: { ...value.choice },
      });
    }),
  );
});

test('a structure cut short anywhere, or with a byte too many, is refused', () => {
  fc.assert(
    fc.property(sample, fc.nat(), (value, n) => {
      const whole = encode(Sample, value);
      assert.equal(tryDecode(Sample, whole.subarray(0, n % whole.length)), undefined);
      assert.equal(tryDecode(Sample, Buffer.concat([whole, Buffer.of(0)])), undefined);
    }),
    { numRuns: 300 },
  );
});

test('no bytes at all make a decoder fail in another way than DecodeError', () => {
  fc.assert(
    fc.property(sample, fc.nat(), fc.integer({ min: 0, max: 255 }), (value, at, byte) => {
      const changed = Buffer.from(encode(Sample, value));
      changed[at % changed.length] = byte;
      tryDecode(Sample, changed);
    }),
    { numRuns: 500 },
  );
});

test('a refusal names field and offset', () => {
  const codec = struct({ head: u16, items: list(u8, struct({ flag: yesNo }), 9) });
  assert.throws(() => decode(codec, Buffer.of(0, 0, 2, 1, 7)), { path: 'items[1].flag', code: 'malformed_structure' });
  assert.throws(() => decode(codec, Buffer.of(0, 0, 10)), { path: 'items', problem: 'count 10 is over 9' });
  assert.throws(() => decode(u16, Buffer.of(1)), { offset: 0, problem: '2 bytes wanted, 1 left' });
});

test('a set bit that nobody declared, an unknown value and another constant do not decode', () => {
  assert.equal(tryDecode(flags(u8, { a: 0 }), Buffer.of(2)), undefined);
  assert.equal(tryDecode(flags(u32, { a: 0 }), Buffer.from('80000000', 'hex')), undefined);
  assert.equal(tryDecode(named(u8, { a: 1 }), Buffer.of(2)), undefined);
  assert.equal(tryDecode(constant(u8, 1), Buffer.of(2)), undefined);
});

test('integers are big-endian unless they say otherwise', () => {
  assert.deepEqual(encode(u32, 0x01020304), Buffer.of(1, 2, 3, 4));
  assert.deepEqual(encode(u32le, 0x01020304), Buffer.of(4, 3, 2, 1));
  assert.deepEqual(encode(u64le, 0x0102030405060708n), Buffer.of(8, 7, 6, 5, 4, 3, 2, 1));
  assert.equal(decode(u64le, Buffer.of(8, 7, 6, 5, 4, 3, 2, 1)), 0x0102030405060708n);
});

test('unused room in an array is ignored when read and zero when written', () => {
  const codec = slots(u8, paddedBytes(u8, 2, 3), 2, 4);
  const noisy = Buffer.of(1, 1, 5, 9, 9, 9, 9, 9, 9);
  assert.deepEqual(decode(codec, noisy), [Buffer.of(5)]);
  assert.deepEqual(encode(codec, [Buffer.of(5)]), Buffer.of(1, 1, 5, 0, 0, 0, 0, 0, 0));
  assert.equal(tryDecode(codec, Buffer.of(3, ...noisy.subarray(1))), undefined);
});

test('a value that does not fit its field is not encoded', () => {
  assert.throws(() => encode(u16, 0x10000), RangeError);
  assert.throws(() => encode(countedBytes(u8, 3), Buffer.alloc(4)), RangeError);
  assert.throws(() => encode(fixedBytes(2), Buffer.alloc(3)), RangeError);
  assert.throws(() => encode(list(u8, u8, 1), [1, 2]), RangeError);
  assert.throws(() => encode(named(u8, { a: 1 }), 'b' as never), RangeError);
});
