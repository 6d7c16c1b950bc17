import assert from 'node:assert/strict';
import { constants, sign } from 'node:crypto';
import { test } from 'node:test';
import { decode, encode } from '@keylime/core/codec';
import { softwareAk } from '@keylime/testing/software-ak';
import { checkCodec } from './internal/codec-checks.ts';
import { TpmtSignature, verifySignature } from './signature.ts';

const message = Buffer.from('what the TPM said');

test('RSASSA, RSAPSS and ECDSA verify with every hash, over the same bytes only', () => {
  for (const hash of ['sha1', 'sha256', 'sha384', 'sha512'] as const) {
    const keys = [
      softwareAk({ hash }),
      softwareAk({ hash, signing: 'rsapss' }),
      softwareAk({ hash, encryption: 'ecc256' }),
      softwareAk({ hash, encryption: 'ecc384' }),
      softwareAk({ hash, encryption: 'ecc521' }),
    ];
    for (const { publicKey, sign: signBytes } of keys) {
      const bytes = signBytes(message);
      checkCodec(TpmtSignature, bytes);
      const signature = decode(TpmtSignature, bytes);
      assert.equal(verifySignature(publicKey, signature, message), true, `${signature.type} ${hash}`);
      assert.equal(verifySignature(publicKey, signature, Buffer.from('something else')), false);
      const other = hash === 'sha256' ? 'sha384' : 'sha256';
      assert.equal(verifySignature(publicKey, { ...signature, hash: other }, message), false);
    }
  }
});

test('RSAPSS verifies whatever the length of its salt', () => {
  const { privateKey, publicKey } = softwareAk();
  for (const saltLength of [0, 20, constants.RSA_PSS_SALTLEN_DIGEST, constants.RSA_PSS_SALTLEN_MAX_SIGN]) {
    const pss = { key: privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
    const signature = { type: 'rsapss', hash: 'sha256', signature: sign('sha256', message, pss) } as const;
    assert.equal(verifySignature(publicKey, signature, message), true, `salt ${saltLength}`);
    assert.equal(verifySignature(publicKey, { ...signature, type: 'rsassa' }, message), false);
  }
});

test('r and s may be shorter than a coordinate, not longer, and not zero', () => {
  const { publicKey, sign: signBytes } = softwareAk({ encryption: 'ecc256' });
  for (;;) {
    const signature = decode(TpmtSignature, signBytes(message));
    assert(signature.type === 'ecdsa');
    if (signature.r[0] !== 0) continue;
    const r = signature.r.subarray(1);
    assert.equal(verifySignature(publicKey, { ...signature, r }, message), true);
    assert.equal(verifySignature(publicKey, { ...signature, r: Buffer.concat([Buffer.alloc(2), r]) }, message), false);
    assert.equal(verifySignature(publicKey, { ...signature, r: Buffer.alloc(0) }, message), false);
    assert.equal(verifySignature(publicKey, { ...signature, s: Buffer.alloc(32) }, message), false);
    return;
  }
});

test('a signature of another type than the key, another algorithm, or SM3 is not accepted', () => {
  const rsa = softwareAk();
  const ecc = softwareAk({ encryption: 'ecc256' });
  const rsaSignature = decode(TpmtSignature, rsa.sign(message));
  const eccSignature = decode(TpmtSignature, ecc.sign(message));
  assert(rsaSignature.type === 'rsassa' && eccSignature.type === 'ecdsa');
  assert.equal(verifySignature(ecc.publicKey, rsaSignature, message), false);
  assert.equal(verifySignature(rsa.publicKey, eccSignature, message), false);
  const der = sign('sha256', message, ecc.privateKey);
  for (const type of ['rsassa', 'rsapss'] as const) {
    assert.equal(verifySignature(ecc.publicKey, { type, hash: 'sha256', signature: der }, message), false);
  }
  for (const type of ['ecdaa', 'ecschnorr', 'sm2'] as const) {
    assert.equal(verifySignature(ecc.publicKey, { ...eccSignature, type }, message), false);
  }
  assert.equal(verifySignature(rsa.publicKey, { ...rsaSignature, hash: 'sm3_256' }, message), false);
});

test('an RSA 2048 signature has 262 bytes, a P-256 one 72', () => {
  assert.equal(softwareAk().sign(message).length, 262);
  const { r, s } = { r: Buffer.alloc(32, 1), s: Buffer.alloc(32, 1) };
  assert.equal(encode(TpmtSignature, { type: 'ecdsa', hash: 'sha256', r, s }).length, 72);
});
