import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseAppendedSignature, verifyAppendedSignature } from './appended-signature.ts';
import { parseVerificationKey } from './public-key.ts';

const read = (name: string): Buffer => readFileSync(new URL(`../../testing/vectors/modsig/${name}`, import.meta.url));

function keyOf(name: string) {
  const parsed = parseVerificationKey(read(name));
  assert.ok(parsed.ok);
  return parsed.value;
}

const keys = { rsa: keyOf('rsa.pem'), ec: keyOf('ec.pem') };
const digestBy = (algorithm: string) => createHash(algorithm).update(read('module.ko')).digest();

function signerOf(name: string) {
  const parsed = parseAppendedSignature(read(name));
  assert.ok(parsed.ok, name);
  const [signer, ...more] = parsed.value.signers;
  assert.ok(signer !== undefined && more.length === 0);
  return signer;
}

for (const [name, key, hashAlgorithm, keyId] of [
  ['rsa-serial.p7s', keys.rsa, 'sha256', undefined],
  ['rsa-keyid.p7s', keys.rsa, 'sha256', keys.rsa.keyId],
  ['rsa-attributes.p7s', keys.rsa, 'sha256', keys.rsa.keyId],
  ['rsa-sha512.p7s', keys.rsa, 'sha512', keys.rsa.keyId],
  ['ec-serial.p7s', keys.ec, 'sha256', undefined],
  ['ec-keyid.p7s', keys.ec, 'sha256', keys.ec.keyId],
] as const) {
  test(`${name} that OpenSSL made is by its key over its content, and by no other over no other`, () => {
    const signer = signerOf(name);
    assert.deepEqual([signer.hashAlgorithm, signer.keyId], [hashAlgorithm, keyId]);
    const digest = digestBy(hashAlgorithm);
    assert.equal(verifyAppendedSignature(signer, digest, [key.key]), true);
    const other = key === keys.rsa ? keys.ec : keys.rsa;
    assert.equal(verifyAppendedSignature(signer, digest, [other.key]), false);
    assert.equal(verifyAppendedSignature(signer, createHash(hashAlgorithm).update('x').digest(), [key.key]), false);
  });
}

test('signed attributes with the right digest and a signature over others are not enough', () => {
  const signer = signerOf('rsa-attributes.p7s');
  assert.ok(signer.attributes);
  const signedBytes = Buffer.from(signer.attributes.signedBytes);
  signedBytes[signedBytes.length - 1] = (signedBytes.at(-1) ?? 0) ^ 1;
  const forged = { ...signer, attributes: { ...signer.attributes, signedBytes } };
  assert.equal(verifyAppendedSignature(forged, digestBy('sha256'), [keys.rsa.key]), false);
});

test('a signature that brings its content, leftover bytes, and one cut short anywhere are refused', () => {
  assert.deepEqual(parseAppendedSignature(read('rsa-attached.p7s')), { ok: false, problem: 'pkcs7' });
  const whole = read('ec-keyid.p7s');
  assert.equal(parseAppendedSignature(Buffer.concat([whole, Buffer.of(0)])).ok, false);
  for (let size = 0; size < whole.length; size++)
    assert.equal(parseAppendedSignature(whole.subarray(0, size)).ok, false);
});

test('no bytes make it fail in another way, and no change of a good one verifies', () => {
  const whole = read('rsa-keyid.p7s');
  const changed = fc
    .record({ at: fc.nat(whole.length - 1), bit: fc.integer({ min: 0, max: 7 }) })
    .map(({ at, bit }) => Buffer.from(whole.map((byte, i) => (i === at ? byte ^ (1 << bit) : byte))));
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), changed), (bytes) => void parseAppendedSignature(bytes)));
  for (let at = whole.length - 256; at < whole.length; at += 17) {
    const bytes = Buffer.from(whole);
    bytes[at] = (bytes[at] ?? 0) ^ 1;
    const parsed = parseAppendedSignature(bytes);
    assert.ok(parsed.ok);
    const verified = parsed.value.signers.some((one) =>
      verifyAppendedSignature(one, digestBy('sha256'), [keys.rsa.key]),
    );
    assert.equal(verified, false, `byte ${at}`);
  }
});
