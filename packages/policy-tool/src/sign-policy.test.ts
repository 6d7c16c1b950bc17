import assert from 'node:assert/strict';
import { createPrivateKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { folder, runTool, writeFiles } from './tool.fixture.ts';

const PASSWORD = 'only for tests';
const pair = generateKeyPairSync('ec', { namedCurve: 'P-384' });
const KEYS = {
  'key.pem': pair.privateKey.export({ format: 'pem', type: 'pkcs8' }),
  'public.pem': pair.publicKey.export({ format: 'pem', type: 'spki' }),
  'encrypted.pem': pair.privateKey.export({
    format: 'pem',
    type: 'pkcs8',
    cipher: 'aes-256-cbc',
    passphrase: PASSWORD,
  }),
  'stranger.pem': generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'pem', type: 'spki' }),
  'rsa.pem': generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ format: 'pem', type: 'pkcs8' }),
  'password.txt': `${PASSWORD}\n`,
  'policy.json': EMPTY_RUNTIME_POLICY_TEXT,
};

/** A folder with keys and a policy, and the tool in it: `@name` is a file of the folder. */
function inFolder(t: import('node:test').TestContext) {
  const directory = folder(t);
  writeFiles(directory, KEYS);
  return {
    directory,
    tool: (...args: readonly string[]) => runTool(args.map((arg) => arg.replace(/^@/, `${directory}/`))),
  };
}

const SIGN = ['sign', 'runtime', '-r', '@policy.json', '-o', '@signed.json'] as const;
const VERIFY = ['verify', '@signed.json', '-o', '-', '-k'] as const;

for (const [what, args] of [
  ['a key', ['-k', '@key.pem']],
  ['an encrypted key', ['-k', '@encrypted.pem', '--key-password-file', '@password.txt']],
] as const) {
  test(`what ${what} signs is taken out again by its public key, and by no other`, async (t) => {
    const { tool } = inFolder(t);
    const signed = await tool(...SIGN, ...args);
    assert.equal(signed.code, 0, signed.stderr);
    const verified = await tool(...VERIFY, '@stranger.pem', '-k', '@public.pem');
    assert.equal(verified.stdout, EMPTY_RUNTIME_POLICY_TEXT);
    assert.match(verified.stderr, /The signature is good/);
    const refused = await tool(...VERIFY, '@stranger.pem');
    assert.equal(refused.code, 1);
    assert.equal(refused.stdout, '');
    assert.match(refused.stderr, /signature of .*signed\.json is not by .*stranger\.pem/);
  });
}

test('a new key is for its owner alone, and never written over', async (t) => {
  const { directory, tool } = inFolder(t);
  const made = await tool(...SIGN, '-p', '@new.pem', '--public-key-outfile', '@new.pub');
  assert.equal(made.code, 0, made.stderr);
  const file = path.join(directory, 'new.pem');
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.match(readFileSync(file, 'utf8'), /BEGIN EC PRIVATE KEY/);
  assert.equal(createPrivateKey(readFileSync(file)).asymmetricKeyDetails?.namedCurve, 'prime256v1');
  assert.equal((await tool(...VERIFY, '@new.pub')).code, 0);
  const before = readFileSync(file, 'utf8');
  const again = await tool(...SIGN, '-p', '@new.pem');
  assert.equal(again.code, 1);
  assert.match(again.stderr, /There is already a file .*new\.pem/);
  assert.equal(readFileSync(file, 'utf8'), before);
});

test('with backend x509 the certificate verifies', async (t) => {
  const { directory, tool } = inFolder(t);
  const made = await tool(...SIGN, '-k', '@key.pem', '-b', 'x509', '-c', '@certificate.pem');
  assert.equal(made.code, 0, made.stderr);
  const certificate = new X509Certificate(readFileSync(path.join(directory, 'certificate.pem')));
  assert.equal(certificate.subjectAltName, 'DNS:dsse_lib');
  assert.ok(certificate.verify(certificate.publicKey));
  assert.equal((await tool(...VERIFY, '@certificate.pem')).stdout, EMPTY_RUNTIME_POLICY_TEXT);
});

for (const [what, args, message] of [
  ['a key of another type', ['-k', '@rsa.pem'], /is of type rsa: an EC key is wanted/],
  ['a key that is none', ['-k', '@policy.json'], /not a private key in PEM/],
  ['an encrypted key without its password', ['-k', '@encrypted.pem'], /it is encrypted, give --key-password-file/],
  [
    'an encrypted key with another password',
    ['-k', '@encrypted.pem', '--key-password-file', '@policy.json'],
    /not a private key in PEM that can be read/,
  ],
  ['a policy that is none', ['-k', '@key.pem', '-r', '@key.pem'], /is not JSON/],
] as const) {
  test(`refused, and nothing signed: ${what}`, async (t) => {
    const { directory, tool } = inFolder(t);
    const { code, stderr } = await tool(...SIGN, ...args);
    assert.equal(code, 1);
    assert.match(stderr, message);
    assert.ok(!stderr.includes(PASSWORD));
    assert.equal(statSync(path.join(directory, 'signed.json'), { throwIfNoEntry: false }), undefined);
  });
}

test('what is signed is not signed again, and what is not signed does not verify', async (t) => {
  const { tool } = inFolder(t);
  await tool(...SIGN, '-k', '@key.pem');
  const again = await tool('sign', 'runtime', '-r', '@signed.json', '-k', '@key.pem');
  assert.equal(again.code, 1);
  assert.match(again.stderr, /is signed already/);
  const unsigned = await tool('verify', '@policy.json', '-k', '@public.pem');
  assert.equal(unsigned.code, 1);
  assert.match(unsigned.stderr, /is not signed/);
});
