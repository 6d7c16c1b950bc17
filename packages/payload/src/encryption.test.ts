import assert from 'node:assert/strict';
import { constants, createPublicKey, generateKeyPairSync, publicEncrypt } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { decryptPayload, encryptPayload, IV_BYTES, unwrapKeyShare, wrapKeyShare } from './encryption.ts';

const K = Buffer.from(Array.from({ length: 32 }, (_, index) => index));
const IV = Buffer.alloc(IV_BYTES, 7);
// Made by the existing tenant's functions; spec 02 section 5.1.
const ENCRYPTED = 'BwcHBwcHBwcHBwcHBwcHB6ANt5qXtPwiGJMBw3pM+g/LTU468YU=';

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const publicKey = createPublicKey(privateKey);

test('a payload is encrypted as the existing tenant does it, and decrypts', () => {
  assert.equal(encryptPayload(K, Buffer.from('hello\n'), IV).toString('base64'), ENCRYPTED);
  assert.deepEqual(decryptPayload(K, Buffer.from(ENCRYPTED, 'base64')), { ok: true, value: Buffer.from('hello\n') });
});

test('whatever is encrypted under keys of 16 and 32 bytes decrypts', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 1000 }), fc.constantFrom(16, 32), (plaintext, size) => {
      const decrypted = decryptPayload(K.subarray(0, size), encryptPayload(K.subarray(0, size), plaintext, IV));
      assert.deepEqual(decrypted, { ok: true, value: Buffer.from(plaintext) });
    }),
  );
});

test('[MUST] a payload that was changed, cut short, or encrypted under another key is refused', () => {
  const encrypted = Buffer.from(ENCRYPTED, 'base64');
  for (let index = 0; index < encrypted.length; index++) {
    const changed = Buffer.from(encrypted);
    changed[index] = (changed[index] ?? 0) ^ 0x80;
    assert.deepEqual(decryptPayload(K, changed), { ok: false, problem: 'not_authentic' });
  }
  for (let length = 0; length < encrypted.length; length++) {
    const problem = length < 32 ? 'truncated' : 'not_authentic';
    assert.deepEqual(decryptPayload(K, encrypted.subarray(0, length)), { ok: false, problem });
  }
  assert.deepEqual(decryptPayload(Buffer.alloc(32), encrypted), { ok: false, problem: 'not_authentic' });
  assert.deepEqual(decryptPayload(Buffer.alloc(24), encrypted), { ok: false, problem: 'key_size' });
});

test('a key or IV of another size is not used for encryption', () => {
  assert.throws(() => encryptPayload(Buffer.alloc(24), Buffer.alloc(1), IV), RangeError);
  assert.throws(() => encryptPayload(K, Buffer.alloc(1), Buffer.alloc(12)), RangeError);
});

test('a key share comes out of its wrapping with the private key only', () => {
  assert.deepEqual(unwrapKeyShare(privateKey, wrapKeyShare(publicKey, K)), K);
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  assert.equal(unwrapKeyShare(other, wrapKeyShare(publicKey, K)), undefined);
  assert.equal(unwrapKeyShare(privateKey, Buffer.alloc(256, 1)), undefined);
  assert.equal(unwrapKeyShare(privateKey, Buffer.alloc(0)), undefined);
});

test('OAEP has SHA-1: what is wrapped with SHA-256 does not unwrap', () => {
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  assert.deepEqual(unwrapKeyShare(privateKey, publicEncrypt({ key: publicKey, padding, oaepHash: 'sha1' }, K)), K);
  const sha256 = publicEncrypt({ key: publicKey, padding, oaepHash: 'sha256' }, K);
  assert.equal(unwrapKeyShare(privateKey, sha256), undefined);
});
