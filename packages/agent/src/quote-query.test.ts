import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseIdentityQuery, parseIntegrityQuery, type Query } from './quote-query.ts';

const nonce = 'AbCdEfGhIjKlMnOpQrSt';
const query = { nonce, mask: '0x408000', partial: '1', ima_ml_entry: '17' };

const problemOf = (one: Query) => {
  const parsed = parseIntegrityQuery(one);
  assert.equal(parsed.ok, false);
  return parsed.ok ? '' : parsed.problem;
};

test('an integrity query is read as the verifier writes it', () => {
  assert.deepEqual(parseIntegrityQuery(query), {
    ok: true,
    value: { nonce: Buffer.from(nonce), mask: 0x408000, withPubkey: false, firstEntry: 17 },
  });
});

test('the mask needs no prefix, and may have leading zeros', () => {
  for (const mask of ['400', '0x400', '00000000400', '0x0000000000000400']) {
    const parsed = parseIntegrityQuery({ ...query, mask });
    assert.equal(parsed.ok && parsed.value.mask, 0x400, mask);
  }
});

test('each wrong parameter is refused with the text that the existing agent gives', () => {
  assert.equal(problemOf({ ...query, nonce: 'a b' }), 'nonce should be strictly alphanumeric: a b');
  assert.equal(problemOf({ ...query, nonce: '' }), 'nonce should be strictly alphanumeric: ');
  assert.equal(problemOf({ ...query, mask: '0x4-0' }), 'mask should be strictly alphanumeric: 0x4-0');
  assert.equal(problemOf({ ...query, mask: 'xyz' }), 'mask should be a hex encoded 32-bit integer: xyz');
  assert.equal(problemOf({ ...query, mask: '100000000' }), 'mask should be a hex encoded 32-bit integer: 100000000');
  assert.equal(problemOf({ ...query, mask: '0x1000000' }), 'mask should only name PCRs 0 to 23: 0x1000000');
  assert.match(problemOf({ ...query, nonce: 'n'.repeat(65) }), /^Nonce is too long \(max size 64\)/);
  assert.equal(problemOf({ ...query, partial: '2' }), "uri must contain key 'partial' and value '0' or '1'");
  assert.equal(problemOf({ nonce, mask: '0' }), 'Query deserialize error: missing field `partial`');
  assert.equal(problemOf({ ...query, nonce: ['a', 'b'] }), 'Query deserialize error: duplicate field `nonce`');
});

test('checks come in order: characters, mask, length of the nonce, partial', () => {
  const long = 'n'.repeat(65);
  assert.match(problemOf({ nonce: `${long}-`, mask: '-', partial: '2' }), /^nonce should/);
  assert.match(problemOf({ nonce: long, mask: '-', partial: '2' }), /^mask should be strictly/);
  assert.match(problemOf({ nonce: long, mask: 'x', partial: '2' }), /^mask should be a hex/);
  assert.match(problemOf({ nonce: long, mask: '0', partial: '2' }), /^Nonce is too long/);
});

test('a list entry that is no number counts as 0', () => {
  for (const [ima_ml_entry, expected] of [
    [undefined, 0],
    ['', 0],
    ['-1', 0],
    ['x', 0],
    ['007', 7],
    [['1', '2'], 0],
  ]) {
    const parsed = parseIntegrityQuery({ ...query, ima_ml_entry });
    assert.equal(parsed.ok && parsed.value.firstEntry, expected);
  }
});

test('an identity query has a nonce and nothing else', () => {
  assert.deepEqual(parseIdentityQuery({ nonce: 'é1' }), {
    ok: true,
    value: { nonce: Buffer.from('é1'), mask: 0, withPubkey: true },
  });
  assert.deepEqual(parseIdentityQuery({ nonce: '!' }), {
    ok: false,
    problem: 'Parameters should be strictly alphanumeric: !',
  });
  assert.equal(parseIdentityQuery({}).ok, false);
});

test('whatever the parameters are, the answer is a request within bounds or a text', () => {
  const value = fc.oneof(fc.string(), fc.constant(undefined), fc.array(fc.string(), { maxLength: 2 }));
  const anyQuery = fc.record({ nonce: value, mask: value, partial: value, ima_ml_entry: value });
  fc.assert(
    fc.property(anyQuery, (one) => {
      const parsed = parseIntegrityQuery(one);
      if (!parsed.ok) return parsed.problem.length > 0;
      const { nonce: bytes, mask, firstEntry } = parsed.value;
      return bytes.length >= 1 && bytes.length <= 64 && mask <= 0xffffff && Number.isSafeInteger(firstEntry);
    }),
  );
});
