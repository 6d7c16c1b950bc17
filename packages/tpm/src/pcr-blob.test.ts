import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decode, encode } from '@keylime/core/codec';
import { checkCodec } from './internal/codec-checks.ts';
import { onlySelection, PcrValues, pcrValues } from './pcr-blob.ts';

const value = (n: number) => Buffer.alloc(32, n);
const mask = (1 << 10) | (1 << 16);
const blob = encode(PcrValues, pcrValues('sha256', mask, [value(1), value(2)]));

test('the image has the size and the start of the existing agents', () => {
  assert.equal(blob.length, 668);
  assert.equal(blob.subarray(0, 12).toString('hex'), '010000000b00030004010000');
  assert.equal(blob.readUInt32LE(132), 1);
  assert.equal(blob.readUInt32LE(136), 2);
  assert.equal(blob.readUInt16LE(140), 32);
  const many = Array.from({ length: 16 }, (_, i) => value(i));
  assert.equal(encode(PcrValues, pcrValues('sha256', 0xffff, many)).length, 1200);
});

test('images decode, encode back and are refused when damaged', () => {
  checkCodec(PcrValues, blob);
  checkCodec(PcrValues, encode(PcrValues, pcrValues('sha384', 0x1ff, Array(9).fill(Buffer.alloc(48, 7)))));
});

test('what lies in unused places does not matter', () => {
  const noisy = Buffer.from(blob);
  noisy.fill(0xee, 12, 132); // the 15 selections that are not used
  noisy.fill(0xee, 140 + 2 * 66); // the 6 digests that are not used
  noisy.fill(0xee, 142 + 32, 140 + 66); // behind the first digest
  assert.deepEqual(decode(PcrValues, noisy), decode(PcrValues, blob));
});

test('the one selection is found, and only if it is the only one', () => {
  const values = decode(PcrValues, blob);
  assert.deepEqual(onlySelection(values), { hash: 0x000b, mask });
  assert.equal(onlySelection({ ...values, selections: [] }), undefined);
  assert.equal(onlySelection({ ...values, selections: [...values.selections, ...values.selections] }), undefined);
});

test('as many values as PCRs, and PCRs below 24', () => {
  assert.throws(() => pcrValues('sha256', 3, [value(1)]), RangeError);
  assert.throws(() => pcrValues('sha256', 1 << 24, [value(1)]), RangeError);
});
