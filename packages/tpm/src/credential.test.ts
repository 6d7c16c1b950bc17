import assert from 'node:assert/strict';
import { constants, createDecipheriv, privateDecrypt } from 'node:crypto';
import { test } from 'node:test';
import { DecodeError } from '@keylime/core/codec';
import { softwareAk } from '@keylime/testing/software-ak';
import fc from 'fast-check';
import { authTag, decodeChallenge, encodeChallenge, makeCredential, sealCredential } from './credential.ts';
import { ekTemplate } from './ek.ts';
import { kdfa, kdfe } from './kdf.ts';
import { TpmKeyError, type TpmtPublic } from './public.ts';

/** The bytes 0, 1, ... 31. */
const counting = Buffer.from(Array.from({ length: 32 }, (_, i) => i));
const name = Buffer.from(`000b${'aa'.repeat(32)}`, 'hex');
const secret = Buffer.from('0123456789ABCDEFGHIJKLMNOPQRSTUV');
const none = Buffer.alloc(0);

test('KDFa and KDFe give the known keys', () => {
  const hex = (bytes: Buffer) => bytes.toString('hex');
  assert.equal(hex(kdfa('sha256', counting, 'STORAGE', name, none, 128)), '0415b32b6f43896a87e7b29be8f2ac14');
  assert.equal(
    hex(kdfa('sha256', counting, 'INTEGRITY', none, none, 256)),
    'bacf689f634ece301e1f1b15b072d9c87db6a69585db42b1a0cb8f73ebe2692e',
  );
  assert.equal(
    hex(kdfe('sha256', counting, 'IDENTITY', Buffer.alloc(32, 0x11), Buffer.alloc(32, 0x22), 256)),
    'cbce7a80e1b35da754dc24ec97f8c9ef9281bf9944c930765256ae6ea7d59f0e',
  );
});

test('a credential for a known seed is the known one', () => {
  const sealed = sealCredential({ hash: 'sha256', keyBits: 128, seed: counting, name, secret });
  assert.equal(
    sealed.toString('hex'),
    '0020eff338d539bdc743402c1ea394914a5f35b3bf98a078414b92de8c6aba06a89d1e4a1ac20c4f756876bb08045498d1723c9b14c7710689466ad1c34c539d24be3e05',
  );
});

test('the auth tag is the known one', () => {
  assert.equal(
    authTag(secret.toString('base64'), 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000'),
    '1f0973613ace4ae06a18a518ddc4d56b25ae9d974da832b719e794e99d4551c6a086b0b494908da6e5540d2d96989b91',
  );
});

const holder = softwareAk({ encryption: 'rsa2048' });
const holderUnique = holder.public.type === 'rsa' ? holder.public.unique : none;
const ek = { ...ekTemplate('rsa2048'), unique: holderUnique } as TpmtPublic;

test('the holder of an RSA EK finds seed and secret', () => {
  const { credentialBlob, encryptedSecret } = makeCredential({ ek, akName: name, secret });
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  const oaepLabel = Buffer.from('IDENTITY\0');
  const seed = privateDecrypt({ key: holder.privateKey, padding, oaepHash: 'sha256', oaepLabel }, encryptedSecret);
  assert.deepEqual(sealCredential({ hash: 'sha256', keyBits: 128, seed, name, secret }), credentialBlob);
  const key = kdfa('sha256', seed, 'STORAGE', name, none, 128);
  const plain = createDecipheriv('aes-128-cfb', key, Buffer.alloc(16)).update(credentialBlob.subarray(34));
  assert.deepEqual(plain, Buffer.concat([Buffer.of(0, 32), secret]));
});

test('blobs have the sizes of the existing registrar', () => {
  const size = (pub: TpmtPublic) => encodeChallenge(makeCredential({ ek: pub, akName: name, secret })).length;
  const eccEk = (encryption: 'ecc256' | 'ecc384') => {
    const { public: pub } = softwareAk({ encryption });
    return { ...ekTemplate(encryption), unique: pub.unique } as TpmtPublic;
  };
  assert.equal(size(ek), 336);
  assert.equal(size(eccEk('ecc256')), 148);
  assert.equal(size(eccEk('ecc384')), 196);
});

test('an EK that cannot encrypt, or a secret that is too long, is refused', () => {
  const make = (pub: TpmtPublic) => makeCredential({ ek: pub, akName: name, secret });
  assert.throws(() => make({ ...ek, symmetric: { type: 'null' } }), TpmKeyError);
  assert.throws(() => make({ ...ek, symmetric: { type: 'aes', keyBits: 512, mode: 'cfb' } }), TpmKeyError);
  assert.throws(() => make(ekTemplate('ecc256')), TpmKeyError);
  assert.throws(() => make(ekTemplate('rsa2048')), TpmKeyError);
  assert.throws(() => makeCredential({ ek, akName: name, secret: Buffer.alloc(33) }), RangeError);
});

test('a challenge decodes to what was encoded; cut short, extended or with another head it is malformed', () => {
  const credential = makeCredential({ ek, akName: name, secret });
  const blob = encodeChallenge(credential);
  assert.equal(blob.subarray(0, 10).toString('hex'), 'badcc0de000000010044');
  assert.deepEqual(decodeChallenge(blob), credential);
  for (let n = 0; n < blob.length; n++) assert.throws(() => decodeChallenge(blob.subarray(0, n)), DecodeError);
  assert.throws(() => decodeChallenge(Buffer.concat([blob, Buffer.of(0)])), DecodeError);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (head) => {
      const changed = Buffer.concat([head, blob.subarray(8)]);
      if (!changed.equals(blob)) assert.throws(() => decodeChallenge(changed), DecodeError);
    }),
  );
});
