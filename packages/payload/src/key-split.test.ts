import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isKeyAuthTag, isKeyVerifyHmac, joinKey, KEY_BYTES, keyAuthTag, keyVerifyHmac, splitKey } from './key-split.ts';

// Made by the existing tenant's functions; spec 02 section 5.1.
const K = Buffer.from(Array.from({ length: KEY_BYTES }, (_, index) => index));
const V = Buffer.alloc(KEY_BYTES, 0x5a);
const AGENT_ID = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';
const U_HEX = '5a5b58595e5f5c5d52535051565754554a4b48494e4f4c4d4243404146474445';
const TAG_HEX = '74216909e21c5a1a5fb9e0ad23881f6f1693d01b5469c4d12dfe4ea151ab3334690966790c8e3b4a358b1be3ca443e2d';
const HMAC_HEX = '7c915b8f1e9655d7dd47f76b8ba0d74429ad3f87b3095f197c7afac99fe44557becf4d5a40851f58369ba08347ebad86';

test('U, tag and answer to a challenge are what the existing tenant makes', () => {
  assert.equal(splitKey(K, V).u.toString('hex'), U_HEX);
  assert.equal(keyAuthTag(K, AGENT_ID).toString('hex'), TAG_HEX);
  assert.equal(keyVerifyHmac(K, 'AbCdEfGhIjKlMnOpQrSt'), HMAC_HEX);
  assert.equal(isKeyVerifyHmac(K, 'AbCdEfGhIjKlMnOpQrSt', HMAC_HEX), true);
});

test('the halves give the key, in either order, and neither alone is the key', () => {
  const key = fc.constantFrom(16, 32).chain((size) => {
    const bytes = fc.uint8Array({ minLength: size, maxLength: size }).map((array) => Buffer.from(array));
    return fc.tuple(bytes, bytes);
  });
  fc.assert(
    fc.property(key, ([k, v]) => {
      const { u } = splitKey(k, v);
      assert.deepEqual(joinKey(u, v), k);
      assert.deepEqual(joinKey(v, u), k);
    }),
  );
});

test('halves of other sizes are refused', () => {
  for (const [one, other] of [
    [16, 32],
    [32, 16],
    [0, 0],
    [24, 24],
    [33, 33],
  ] as const) {
    assert.throws(() => joinKey(Buffer.alloc(one), Buffer.alloc(other)), RangeError);
  }
});

test('[MUST] a tag holds for its key and its agent only', () => {
  const tag = keyAuthTag(K, AGENT_ID);
  assert.equal(isKeyAuthTag(K, AGENT_ID, tag), true);
  assert.equal(isKeyAuthTag(K, `${AGENT_ID}0`, tag), false);
  assert.equal(isKeyAuthTag(V, AGENT_ID, tag), false);
  for (let length = 0; length < tag.length; length++) {
    assert.equal(isKeyAuthTag(K, AGENT_ID, tag.subarray(0, length)), false);
  }
  for (let index = 0; index < tag.length; index++) {
    const other = Buffer.from(tag);
    other[index] = (other[index] ?? 0) ^ 1;
    assert.equal(isKeyAuthTag(K, AGENT_ID, other), false);
  }
});

test('an answer of another key, for another challenge, or cut short is no proof', () => {
  assert.equal(isKeyVerifyHmac(V, 'AbCdEfGhIjKlMnOpQrSt', HMAC_HEX), false);
  assert.equal(isKeyVerifyHmac(K, 'other', HMAC_HEX), false);
  assert.equal(isKeyVerifyHmac(K, 'AbCdEfGhIjKlMnOpQrSt', HMAC_HEX.slice(2)), false);
  assert.equal(isKeyVerifyHmac(K, 'AbCdEfGhIjKlMnOpQrSt', ''), false);
});
