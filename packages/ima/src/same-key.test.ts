import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { sameKey } from './same-key.ts';

const make = () => generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;

test('a key that crossed over to a thread is known again, and no other key is taken for it', () => {
  const [key, other] = [make(), make()];
  const copy = structuredClone(key);
  const read = createPublicKey(key.export({ type: 'spki', format: 'pem' }));
  assert.notEqual(copy, key);
  assert.equal(sameKey(key), key);
  assert.equal(sameKey(copy), key);
  assert.equal(sameKey(read), key);
  assert.equal(sameKey(other), other);
});
