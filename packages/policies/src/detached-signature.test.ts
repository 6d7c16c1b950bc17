import assert from 'node:assert/strict';
import { generateKeyPairSync, sign } from 'node:crypto';
import { test } from 'node:test';
import { createMessage, generateKey, sign as signOpenPgp } from 'openpgp';
import { refuseDetachedSignature } from './detached-signature.ts';

const content = Buffer.from('f572d396fae9206628714fb2ce00f72e94f2258f /opt/demo/hello\n');
const now = new Date('2026-03-01T00:00:00Z');
const made = new Date('2026-02-01T00:00:00Z');

async function openPgp(keyExpirationTime = 0) {
  const userIDs = [{ name: 'signer' }];
  const { privateKey, publicKey } = await generateKey({ userIDs, date: made, keyExpirationTime, format: 'object' });
  const message = await createMessage({ binary: content });
  const options = { message, signingKeys: privateKey, detached: true, date: made } as const;
  return {
    key: publicKey.armor(),
    armored: Buffer.from(await signOpenPgp({ ...options, format: 'armored' })),
    binary: await signOpenPgp({ ...options, format: 'binary' }),
  };
}

test('an OpenPGP signature, armoured or not, is good for its file and its key only', async () => {
  const [signer, other] = [await openPgp(), await openPgp()];
  assert.equal(await refuseDetachedSignature(content, signer.armored, signer.key, now), undefined);
  assert.equal(await refuseDetachedSignature(content, signer.binary as Uint8Array, signer.key, now), undefined);
  assert.match((await refuseDetachedSignature(content, signer.armored, other.key, now)) ?? '', /find|key/i);
  const changed = Buffer.concat([content, Buffer.from('x')]);
  assert.match((await refuseDetachedSignature(changed, signer.armored, signer.key, now)) ?? '', /digest|signature/i);
});

test('a key that expired makes its signatures no longer good', async () => {
  const signer = await openPgp(86_400);
  assert.equal(await refuseDetachedSignature(content, signer.armored, signer.key, made), undefined);
  assert.match((await refuseDetachedSignature(content, signer.armored, signer.key, now)) ?? '', /expired/i);
});

test('an ECDSA signature is good for its file and its key only', async () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-384' });
  const pem = publicKey.export({ format: 'pem', type: 'spki' }).toString();
  const signature = sign('sha256', content, privateKey);
  assert.equal(await refuseDetachedSignature(content, signature, pem, now), undefined);
  assert.match((await refuseDetachedSignature(Buffer.from('x'), signature, pem, now)) ?? '', /not by that key/);
  assert.match((await refuseDetachedSignature(content, Buffer.alloc(0), pem, now)) ?? '', /not by that key/);
});

test('other keys, and signatures that are none, verify nothing', async () => {
  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'pem', type: 'spki' });
  assert.match((await refuseDetachedSignature(content, content, rsa.toString(), now)) ?? '', /of type rsa/);
  assert.match((await refuseDetachedSignature(content, content, 'x', now)) ?? '', /neither an OpenPGP/);
  assert.match(
    (await refuseDetachedSignature(content, content, '-----BEGIN PUBLIC KEY-----\nx', now)) ?? '',
    /cannot be read/,
  );
  const { key } = await openPgp();
  for (const nothing of [Buffer.alloc(0), content, Buffer.from('-----BEGIN PGP SIGNATURE-----\n')]) {
    assert.notEqual(await refuseDetachedSignature(content, nothing, key, now), undefined);
  }
});
