import assert from 'node:assert/strict';
import {
  constants,
  createHash,
  createPublicKey,
  generateKeyPairSync,
  privateEncrypt,
  publicDecrypt,
  sign,
} from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { parseImaLine } from './entry.ts';
import { parseKeyring } from './keyring.ts';
import { type ImaSignature, parseImaSignature } from './signature.ts';
import { type FixtureKind, signatureBlob, signingFixture } from './signing-key.fixture.ts';
import { verifyDigest, verifyImaSignature } from './verify-signature.ts';

const DIGEST = createHash('sha256').update('hello\n').digest();

/** 03 sections 6.3 and 6.6 of the reference. */
const EXAMPLE_KEYRING = JSON.stringify({
  pubkeys: [
    'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFOoNhXDpHbUAqVmVuhYLFNXjdynvNA/f2WtlF7KhEV7WJZjM/qx2K7fZ1l+1OHFUQMFKpTUA58J6mlG1XgtABQ==',
  ],
  keyids: [2477118363],
});
const EXAMPLE_LINE =
  '10 925176fc6f0afea6509b1f12968885823b566d56 ima-sig sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 /opt/demo/hello 03020493a5d39b0046304402202f847033331f5f1724585d3c2ba4a966233129c560248c4c93254a62887dfa1602205624463f1252daf98f9f355db38651a42f498e35f64aea37af46ec156510bd77';

function signatureOf(blob: Uint8Array): ImaSignature {
  const parsed = parseImaSignature(blob);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value;
}

test('the example of the reference verifies with its key, and its template hashes are right', () => {
  const line = parseImaLine(EXAMPLE_LINE);
  const keyring = parseKeyring(EXAMPLE_KEYRING);
  assert.ok(line.ok && keyring.ok && line.value.signature);
  const signature = signatureOf(line.value.signature);
  assert.equal(signature.keyId, 0x93a5d39b);
  const key = keyring.value.get(signature.keyId)?.key;
  assert.ok(key);
  assert.equal(verifyImaSignature(signature, DIGEST, key), true);
  const bank = createHash('sha256').update(line.value.templateInput).digest('hex');
  assert.equal(bank, '526e4629591ba6588514fbaa01935660196154958d3b037f6c3d5bd31f7ca7d8');
});

for (const kind of ['rsa', 'P-256', 'P-384', 'P-521', 'secp256k1'] as const satisfies readonly FixtureKind[]) {
  test(`a signature by a key of ${kind} verifies for its digest and its key only`, () => {
    const [one, other] = [signingFixture(kind), signingFixture(kind)];
    const signature = signatureOf(one.sign(DIGEST));
    assert.equal(verifyImaSignature(signature, DIGEST, one.publicKey), true);
    assert.equal(verifyImaSignature(signature, DIGEST, other.publicKey), false);
    assert.equal(verifyImaSignature(signature, createHash('sha256').update('other').digest(), one.publicKey), false);
    const damaged = Buffer.from(signature.signature);
    damaged[damaged.length - 1] = (damaged.at(-1) ?? 0) ^ 1;
    assert.equal(verifyImaSignature({ ...signature, signature: damaged }, DIGEST, one.publicKey), false);
  });

  test(`no bytes make the check with a key of ${kind} throw, or pass`, () => {
    const { publicKey } = signingFixture(kind);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 600 }), (bytes) => !verifyDigest(bytes, 'sha256', DIGEST, publicKey)),
      { numRuns: 50 },
    );
  });
}

test('version 3 is over a hash of type, algorithm and digest', () => {
  const key = signingFixture('P-256');
  const idHash = createHash('sha256').update(Uint8Array.of(6, 4)).update(DIGEST).digest();
  const header = { type: 6, version: 3 };
  assert.equal(verifyImaSignature(signatureOf(key.sign(idHash, header)), DIGEST, key.publicKey), true);
  assert.equal(verifyImaSignature(signatureOf(key.sign(DIGEST, header)), DIGEST, key.publicKey), false);
  // The same signature as that of a file's content: the type is part of what is signed.
  assert.equal(
    verifyImaSignature(signatureOf(key.sign(idHash, { type: 3, version: 3 })), DIGEST, key.publicKey),
    false,
  );
});

test('an RSA signature whose padding is not exactly that of PKCS #1 does not verify', () => {
  // With exponent 3 a forger only needs the first bytes to look right, if garbage after the digest were passed over.
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048, publicExponent: 3 });
  const info = Buffer.from('3031300d060960864801650304020105000420', 'hex');
  const good = privateEncrypt(privateKey, Buffer.concat([info, DIGEST]));
  assert.equal(verifyDigest(good, 'sha256', DIGEST, publicKey), true);
  const bare = privateEncrypt(privateKey, DIGEST);
  assert.equal(publicDecrypt(publicKey, bare).equals(DIGEST), true, 'the padding is right, but for the algorithm');
  assert.equal(verifyDigest(bare, 'sha256', DIGEST, publicKey), false);
  const withoutNull = Buffer.from('302f300b0609608648016503040201' + '0420', 'hex');
  assert.equal(
    verifyDigest(privateEncrypt(privateKey, Buffer.concat([withoutNull, DIGEST])), 'sha256', DIGEST, publicKey),
    false,
  );
  assert.equal(verifyDigest(Buffer.concat([Buffer.of(0), good]), 'sha256', DIGEST, publicKey), false);
  assert.equal(verifyDigest(good, 'sha384', DIGEST, publicKey), false, 'the algorithm is part of what is signed');
});

const blob = signatureBlob({ type: 3, version: 2, hashId: 4, keyId: 1 }, Buffer.alloc(8));
for (const [what, bytes, problem] of [
  ['cut in its header', blob.subarray(0, 8), 'length'],
  ['cut in the signature', blob.subarray(0, -1), 'length'],
  ['longer than it says', Buffer.concat([blob, Buffer.of(0)]), 'length'],
  ['of an HMAC', Buffer.concat([Buffer.of(2), blob.subarray(1)]), 'type'],
  ['of version 1', Buffer.concat([Buffer.of(3, 1), blob.subarray(2)]), 'version'],
  ['of a Merkle tree in version 2', Buffer.concat([Buffer.of(6), blob.subarray(1)]), 'version'],
  ['over MD4', Buffer.concat([Buffer.of(3, 2, 0), blob.subarray(3)]), 'hash_algorithm'],
  ['over Streebog', Buffer.concat([Buffer.of(3, 2, 18), blob.subarray(3)]), 'hash_algorithm'],
] as const) {
  test(`a signature ${what} is refused: ${problem}`, () => {
    assert.deepEqual(parseImaSignature(bytes), { ok: false, problem });
  });
}

test('an RSA signature is as long as its modulus: a zero in front is neither left out nor added', () => {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 1024 });
  // One in 256 begins with a zero.
  const [text = '', signature = Buffer.of()] =
    Array.from({ length: 10_000 }, (_, i) => `file ${i}`)
      .values()
      .map((one) => [one, sign('sha256', Buffer.from(one), privateKey)] as const)
      .find(([, bytes]) => bytes[0] === 0) ?? [];
  const digest = createHash('sha256').update(text).digest();
  assert.equal(verifyDigest(signature, 'sha256', digest, publicKey), true);
  assert.equal(verifyDigest(signature.subarray(1), 'sha256', digest, publicKey), false);
  assert.equal(verifyDigest(Buffer.concat([Buffer.of(0), signature]), 'sha256', digest, publicKey), false);
});

/** DigestInfo of SHA-384, before the digest. */
const SHA384 = Buffer.from('3041300d060960864801650304020205000430', 'hex');

test('an RSA signature by a key too short for the padding, or over a digest of another size, does not verify', () => {
  const digest = createHash('sha384').update('hello\n').digest();
  const encodedBy = (modulusLength: number, hashed: Uint8Array) => {
    const { publicKey, privateKey: key } = generateKeyPairSync('rsa', { modulusLength });
    const info = Buffer.concat([Buffer.of(0), SHA384, hashed]);
    const ones = Buffer.alloc(modulusLength / 8 - 2 - info.length, 0xff);
    const message = Buffer.concat([Buffer.of(0, 1), ones, info]);
    const signature = privateEncrypt({ key, padding: constants.RSA_NO_PADDING }, message);
    return [ones.length, verifyDigest(signature, 'sha384', hashed, publicKey)];
  };
  // RFC 8017 section 9.2: at least eight octets.
  assert.deepEqual(encodedBy(8 * 78, digest), [8, true]);
  assert.deepEqual(encodedBy(8 * 77, digest), [7, false]);
  assert.deepEqual(encodedBy(1024, digest.subarray(0, 32)), [74, false]);
  const short = generateKeyPairSync('rsa', { modulusLength: 512 }).publicKey;
  assert.equal(verifyDigest(Buffer.alloc(64), 'sha384', digest, short), false, 'no room at all');
});

test('no bytes make the header throw', () => {
  fc.assert(fc.property(fc.uint8Array(), (bytes) => typeof parseImaSignature(bytes).ok === 'boolean'));
});

test('a key that is neither RSA nor on a known curve verifies nothing', () => {
  const { publicKey } = generateKeyPairSync('ed25519');
  assert.equal(
    verifyDigest(
      Buffer.alloc(64),
      'sha256',
      DIGEST,
      createPublicKey(publicKey.export({ format: 'pem', type: 'spki' })),
    ),
    false,
  );
});
