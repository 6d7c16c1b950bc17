import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { wrapKeyShare } from '@keylime/payload/encryption';
import { readUkey, readVkey } from './key-requests.ts';

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicKey = createPublicKey(privateKey);
const wrapped = (share: Uint8Array) => wrapKeyShare(publicKey, share).toString('base64');

const SHARE = randomBytes(32);
const TAG = 'aB'.repeat(48);
const good = { auth_tag: TAG, encrypted_key: wrapped(SHARE), payload: 'aGVsbG8=' };

test('U comes with its tag and its payload, V alone', () => {
  assert.deepEqual(readUkey(good, privateKey), {
    ok: true,
    value: { share: SHARE, authTag: Buffer.from(TAG, 'hex'), payload: Buffer.from('hello') },
  });
  const { payload: _, ...bare } = good;
  for (const body of [bare, { ...bare, payload: null }]) {
    const read = readUkey(body, privateKey);
    assert.ok(read.ok);
    assert.equal(read.value.payload, undefined);
  }
  assert.deepEqual(readVkey({ encrypted_key: good.encrypted_key, more: 1 }, privateKey), { ok: true, value: SHARE });
});

test('[MUST] what is wrong is said as the existing agent says it, and first things first', () => {
  const other = createPublicKey(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey);
  const foreign = wrapKeyShare(other, SHARE).toString('base64');
  for (const [changes, problem] of [
    [{ encrypted_key: 'A' }, /^Invalid base64 encoding in encrypted_key: /],
    [{ encrypted_key: `${good.encrypted_key}\n` }, /^Invalid base64 encoding in encrypted_key: /],
    [{ encrypted_key: '' }, /^Failed to decrypt encrypted_key: /],
    [{ encrypted_key: foreign, auth_tag: 'zz' }, /^Failed to decrypt encrypted_key: /],
    [{ encrypted_key: wrapped(Buffer.alloc(24)) }, /^Invalid decrypted key: .*24/],
    [{ auth_tag: 'z'.repeat(96) }, /^Invalid hex encoding in auth_tag: /],
    [{ auth_tag: 'ab' }, /^auth tag length 1 does not correspond to valid SHA-384 HMAC$/],
    [{ auth_tag: '' }, /^auth tag length 0 does not correspond/],
    [{ payload: '*' }, /^Invalid base64 encoding in payload: /],
    [{ auth_tag: undefined }, /^Json deserialize error: missing field `auth_tag`/],
    [{ encrypted_key: undefined }, /^Json deserialize error: missing field `encrypted_key`/],
    [{ auth_tag: 1 }, /^Json deserialize error: field `auth_tag` must be a string/],
  ] as const) {
    const read = readUkey({ ...good, ...changes }, privateKey);
    assert.equal(read.ok, false);
    assert.match(read.ok ? '' : read.problem, problem);
  }
  for (const body of [undefined, null, [], 'text', 1]) assert.equal(readUkey(body, privateKey).ok, false);
  const short = readVkey({ encrypted_key: wrapped(Buffer.alloc(31)) }, privateKey);
  assert.match(short.ok ? '' : short.problem, /^Decrypted key is invalid: .*31/);
});
