import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { DER, readElement, readElements } from '@keylime/core/der';
import { oid, tlv } from '@keylime/identity/forge-certificate';
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

/** The fields of a signer: version, sid, digestAlgorithm, signedAttrs, signatureAlgorithm, signature. */
type SignerFields = readonly Buffer[];

/** rsa-attributes.p7s with other parts. */
function forge({
  type = oid('1.2.840.113549.1.7.2'),
  contentType = oid('1.2.840.113549.1.7.1'),
  signer = (fields: SignerFields) => fields,
  signerInfos = (one: Buffer): readonly Buffer[] => [tlv(DER.set, one)],
} = {}): Buffer {
  const contentOf = (bytes: Buffer) => readElement(bytes).content;
  const partsOf = (content: Buffer) => readElements(content).map(({ bytes }) => bytes);
  const [, content = Buffer.of()] = partsOf(contentOf(read('rsa-attributes.p7s')));
  const [version, algorithms, , infos] = partsOf(contentOf(contentOf(content)));
  assert.ok(version && algorithms && infos);
  const changed = tlv(DER.sequence, ...signer(partsOf(contentOf(contentOf(infos)))));
  const fields = [version, algorithms, tlv(DER.sequence, contentType), ...signerInfos(changed)];
  return tlv(DER.sequence, type, tlv(0xa0, tlv(DER.sequence, ...fields)));
}

const changing = (at: number, field: (was: Buffer) => Buffer) => ({
  signer: (fields: SignerFields) => fields.map((was, i) => (i === at ? field(was) : was)),
});
const [SID, DIGEST_ALGORITHM, ATTRIBUTES] = [1, 2, 3];
const digestAttribute = tlv(
  DER.sequence,
  oid('1.2.840.113549.1.9.4'),
  tlv(DER.set, tlv(DER.octetString, digestBy('sha256'))),
);

test('what is put together of the parts of a good one is as good, and with one part changed it is no signature', () => {
  const whole = parseAppendedSignature(forge());
  const [signer] = whole.ok ? whole.value.signers : [];
  assert.ok(signer && verifyAppendedSignature(signer, digestBy('sha256'), [keys.rsa.key]));
  const changes: Readonly<Record<string, Parameters<typeof forge>[0]>> = {
    'of another type': { type: oid('1.2.840.113549.1.7.6') },
    'about content of another type': { contentType: oid('1.2.840.113549.1.9.16.1.4') },
    'by nobody': { signerInfos: () => [tlv(DER.set)] },
    'without a set of signers': { signerInfos: () => [] },
    'with two sets of signers': { signerInfos: (one) => [tlv(DER.set, one), tlv(DER.set, one)] },
    'with two digests': changing(ATTRIBUTES, (was) => tlv(0xa0, digestAttribute, readElement(was).content)),
    'with attributes but no digest': changing(ATTRIBUTES, () => tlv(0xa0)),
    'with a field that no signer has': { signer: (fields) => [...fields, tlv(DER.octetString, Buffer.of(1))] },
    'by a key id of three bytes': changing(SID, () => tlv(0x80, Buffer.of(1, 2, 3))),
    'over a digest of MD5': changing(DIGEST_ALGORITHM, () => tlv(DER.sequence, oid('1.2.840.113549.2.5'))),
  };
  for (const [name, change] of Object.entries(changes)) {
    assert.deepEqual(parseAppendedSignature(forge(change)), { ok: false, problem: 'pkcs7' }, name);
  }
});
