import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { computedKeyId } from '@keylime/ima/public-key';
import { openLog } from '@keylime/service/log';
import { parseArguments } from './argv.ts';
import { readSignatureKeys } from './signature-keys.ts';
import { TenantError, type TenantErrorCode } from './tenant-error.ts';
import { openLab } from './testing/lab.ts';

const log = openLog({ name: 'keylime.tenant', destination: { write: () => {} } });
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'spki' }).toString();

function files(t: test.TestContext) {
  const lab = openLab(t);
  const write = (name: string, content: string | Buffer): string => {
    writeFileSync(path.join(lab.workDir, name), content);
    return path.join(lab.workDir, name);
  };
  const read = (...argv: readonly string[]) => readSignatureKeys(parseArguments([...argv]), 5000, log);
  const refused = (argv: readonly string[], code: TenantErrorCode, message: RegExp) =>
    assert.rejects(read(...argv), (error) => {
      assert.ok(error instanceof TenantError);
      assert.deepEqual([error.code, message.test(error.message)], [code, true], error.message);
      return true;
    });
  return { lab, write, read, refused };
}

test('keys of any form become the keyring that the verifier takes; none are no keyring', async (t) => {
  const { write, read } = files(t);
  const der = ec.privateKey.export({ format: 'der', type: 'pkcs8' });
  const text = await read(
    '--signature-verification-key',
    write('rsa.pem', pem(rsa.publicKey)),
    '--sign_verification_key',
    write('ec.der', der),
  );
  const { pubkeys, keyids } = JSON.parse(text);
  assert.deepEqual(keyids, [computedKeyId(rsa.publicKey), computedKeyId(ec.publicKey)]);
  assert.deepEqual(pubkeys[1], ec.publicKey.export({ format: 'der', type: 'spki' }).toString('base64'));
  assert.equal(await read(), '');
});

test('a detached signature must be by the key that was named for it', async (t) => {
  const { write, read, refused } = files(t);
  const key = write('key.pem', pem(rsa.publicKey));
  const signature = write('key.sig', sign('sha256', Buffer.from(pem(rsa.publicKey)), ec.privateKey));
  const named = (signer: KeyObject) => [
    '--signature-verification-key',
    key,
    '--signature-verification-key-sig',
    signature,
    '--signature-verification-key-sig-key',
    write('signer.pem', pem(signer)),
  ];
  assert.equal(JSON.parse(await read(...named(ec.publicKey))).keyids.length, 1);
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;
  await refused(named(other), 'policy_signature', /is not good: the signature is not by that key/);
  await refused(named(ec.publicKey).slice(0, 4), 'invalid_argument', /needs its/);
});

test('what is no key, and a key over http without a signature, are refused', async (t) => {
  const { write, refused } = files(t);
  await refused(['--signature-verification-key', write('x', 'x')], 'policy_invalid', /it is no key/);
  const ed25519 = write('ed', pem(generateKeyPairSync('ed25519').publicKey));
  await refused(['--signature-verification-key', ed25519], 'policy_invalid', /of type ed25519/);
  await refused(['--signature-verification-key-url', 'http://127.0.0.1:1/k'], 'policy_signature', /over https/);
});
