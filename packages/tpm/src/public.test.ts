import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { DecodeError, decode, encode } from '@keylime/core/codec';
import { softwareAk } from '@keylime/testing/software-ak';
import { akTemplate } from './ak.ts';
import { EK_ALGORITHMS, ekTemplate } from './ek.ts';
import { iakTemplate, idevidTemplate, manualAlgorithms } from './iak.ts';
import { checkCodec } from './internal/codec-checks.ts';
import {
  decodePublic,
  encodePublic,
  encryptionAlgorithm,
  objectName,
  publicKey,
  Tpm2bPublic,
  TpmKeyError,
  TpmtPublic,
} from './public.ts';

const rsa = softwareAk({ encryption: 'rsa2048' }).public;
const ecc = softwareAk({ encryption: 'ecc256' }).public;

test('the RSA 2048 EK template has the bytes of the TCG profile', () => {
  const policyA = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa';
  const expected = `0001000b000300b20020${policyA}000600800043001008000000000001 00${'00'.repeat(256)}`.replace(
    ' ',
    '',
  );
  assert.equal(encode(TpmtPublic, ekTemplate('rsa2048')).toString('hex'), expected);
});

test('the default AK begins as the existing agents make it', () => {
  const bytes = encode(TpmtPublic, rsa);
  assert.equal(bytes.length, 280);
  assert.equal(
    bytes.subarray(0, 24).toString('hex'),
    '0001000b0005007200000010001400 0b0800000000000100'.replace(' ', ''),
  );
});

test('public areas of every kind decode, encode back and are refused when damaged', () => {
  checkCodec(Tpm2bPublic, encodePublic(rsa));
  checkCodec(Tpm2bPublic, encodePublic(ecc));
  const templates = [
    ...EK_ALGORITHMS.map(ekTemplate),
    akTemplate({ encryption: 'ecc384', signing: 'ecdsa', hash: 'sha384' }),
    iakTemplate(manualAlgorithms('rsa', 'sha384')),
    idevidTemplate(manualAlgorithms('ecc', 'sha512')),
  ];
  for (const template of templates) checkCodec(TpmtPublic, encode(TpmtPublic, template));
});

test('a size that does not cover exactly the rest is refused', () => {
  const bytes = encodePublic(rsa);
  for (const size of [0, bytes.length - 3, bytes.length - 1, 0xffff]) {
    const changed = Buffer.from(bytes);
    changed.writeUInt16BE(size);
    assert.throws(() => decodePublic(changed), DecodeError);
  }
});

test('an attribute bit that the specification does not have is refused', () => {
  const bytes = encode(TpmtPublic, rsa);
  bytes.writeUInt32BE(0x80050072, 4);
  assert.throws(() => decode(TpmtPublic, bytes), { path: 'objectAttributes' });
});

test('keys come out as node:crypto has them', () => {
  for (const encryption of ['rsa2048', 'rsa3072', 'ecc256', 'ecc384', 'ecc521'] as const) {
    const ak = softwareAk({ encryption });
    assert(publicKey(ak.public).equals(ak.publicKey), encryption);
    assert.equal(encryptionAlgorithm(ak.public), encryption);
  }
});

test('short coordinates are padded on the left', () => {
  for (;;) {
    const { public: pub, publicKey: key } = softwareAk({ encryption: 'ecc521' });
    if (pub.type !== 'ecc' || pub.unique.x[0] !== 0) continue; // a P-521 coordinate begins with 0 every second time
    const unique = { ...pub.unique, x: pub.unique.x.subarray(1) };
    assert(publicKey({ ...pub, unique }).equals(key));
    return;
  }
});

test('impossible keys are refused', () => {
  assert(rsa.type === 'rsa' && ecc.type === 'ecc');
  const y = Buffer.from(ecc.unique.y);
  y[31] = (y[31] ?? 0) ^ 1;
  const impossible: readonly TpmtPublic[] = [
    { ...rsa, unique: rsa.unique.subarray(1) },
    { ...rsa, unique: Buffer.alloc(0) },
    { ...rsa, keyBits: 3072 },
    { ...rsa, unique: Buffer.concat([Buffer.of(0), rsa.unique.subarray(1)]) },
    { ...rsa, exponent: 65536 },
    { ...rsa, exponent: 1 },
    { ...ecc, unique: { x: ecc.unique.x, y } },
    { ...ecc, unique: { x: Buffer.alloc(0), y: Buffer.alloc(0) } },
    { ...ecc, unique: { x: Buffer.alloc(33, 1), y } },
    { ...ecc, unique: { x: Buffer.alloc(32, 0xff), y } },
    { ...ecc, curve: 'nist_p384' },
    { ...ecc, curve: 'sm2_p256' },
  ];
  for (const pub of impossible) assert.throws(() => publicKey(pub), TpmKeyError);
});

test('a Name is the id of nameAlg and the digest of the TPMT_PUBLIC', () => {
  const expected = `000b${createHash('sha256').update(encodePublic(ecc).subarray(2)).digest('hex')}`;
  assert.equal(objectName(ecc).toString('hex'), expected);
});
