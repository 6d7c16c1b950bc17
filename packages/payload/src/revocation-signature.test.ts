import assert from 'node:assert/strict';
import { constants, createPublicKey, generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { isRevocationSigned, signRevocation } from './revocation-signature.ts';

const MSG = '{"type": "revocation", "agent_id": "d432fbb3"}';

for (const bits of [2048, 3072, 2056]) {
  test(`a message signed with RSA of ${bits} bits verifies, and is not malleable`, () => {
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: bits });
    const signature = signRevocation(privateKey, MSG);
    assert.equal(isRevocationSigned(publicKey, MSG, signature), true);
    assert.equal(isRevocationSigned(publicKey, `${MSG} `, signature), false);
    assert.equal(isRevocationSigned(publicKey, MSG, signature.slice(4)), false);
    assert.equal(isRevocationSigned(publicKey, MSG, `${signature}\n`), false);
    assert.equal(isRevocationSigned(publicKey, MSG, ''), false);
  });
}

test('[MUST] neither another salt, another padding, nor another key verifies', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  const withSalt = (saltLength: number) =>
    sign('sha256', Buffer.from(MSG), { key: privateKey, padding, saltLength }).toString('base64');
  assert.equal(isRevocationSigned(publicKey, MSG, withSalt(222)), true);
  for (const salt of [0, 20, 32, 221]) assert.equal(isRevocationSigned(publicKey, MSG, withSalt(salt)), false);
  const pkcs1 = sign('sha256', Buffer.from(MSG), privateKey).toString('base64');
  assert.equal(isRevocationSigned(publicKey, MSG, pkcs1), false);
  const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  assert.equal(isRevocationSigned(createPublicKey(other), MSG, signRevocation(privateKey, MSG)), false);
});

test('a key that is not RSA is a mistake, not a refusal', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  assert.throws(() => signRevocation(privateKey, MSG), TypeError);
  assert.throws(() => isRevocationSigned(publicKey, MSG, 'AAAA'), TypeError);
});
