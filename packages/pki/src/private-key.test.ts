import assert from 'node:assert/strict';
import { createPublicKey } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { PkiError } from './pki-error.ts';
import { ensureRsaKey, findPrivateKey, generateP256Key, parsePrivateKey, privateKeyPem } from './private-key.ts';

const dir = await mkdtemp(join(tmpdir(), 'keylime-key-'));
after(() => rm(dir, { recursive: true }));

const refusal = (code: string) => (error: unknown) => error instanceof PkiError && error.code === code;

test('a missing RSA key is made for its owner alone and found again', async () => {
  const path = join(dir, 'payload-private.pem');
  const key = await ensureRsaKey(path, 2048);
  assert.equal(((await stat(path)).mode & 0o777).toString(8), '600');
  assert.match(await readFile(path, 'utf8'), /^-----BEGIN PRIVATE KEY-----\n/);
  assert.ok((await ensureRsaKey(path, 2048)).equals(key));
});

test('a key with a password is encrypted in its file and needs the password', async () => {
  const path = join(dir, 'sealed.pem');
  const key = await ensureRsaKey(path, 2048, 'pass');
  assert.match(await readFile(path, 'utf8'), /^-----BEGIN ENCRYPTED PRIVATE KEY-----\n/);
  assert.ok((await ensureRsaKey(path, 2048, 'pass')).equals(key));
  await assert.rejects(ensureRsaKey(path, 2048, 'no'), refusal('wrong_password'));
  await assert.rejects(ensureRsaKey(path, 2048), refusal('wrong_password'));
});

test('a file that is no sufficient RSA key is refused and left as it is', async () => {
  const path = join(dir, 'other.pem');
  for (const [content, code] of [
    [privateKeyPem(await generateP256Key()), 'wrong_key_type'],
    [privateKeyPem(await ensureRsaKey(join(dir, 'small.pem'), 1024)), 'wrong_key_type'],
    ['no key', 'malformed_key'],
    ['', 'malformed_key'],
  ] as const) {
    await writeFile(path, content);
    await assert.rejects(ensureRsaKey(path, 2048), refusal(code));
    assert.equal(await readFile(path, 'utf8'), content);
  }
});

test('processes that make the same key at once get the same one and leave nothing behind', async () => {
  const path = join(dir, 'raced.pem');
  const keys = await Promise.all([1, 2, 3].map(() => ensureRsaKey(path, 2048)));
  assert.ok(keys.every((key) => createPublicKey(key).equals(createPublicKey(keys[0] ?? key))));
  assert.equal((await readdir(dir)).filter((name) => name.startsWith('raced')).length, 1);
});

test('a key that is not there is not found', async () => {
  assert.equal(await findPrivateKey(join(dir, 'nowhere.pem')), undefined);
});

test('an error about a key does not show it', async () => {
  const pem = privateKeyPem(await generateP256Key()).replace('MI', 'XX');
  assert.throws(
    () => parsePrivateKey(pem, 'server-private.pem'),
    (error: unknown) =>
      error instanceof PkiError && error.message === 'server-private.pem is not a private key in PEM.',
  );
});
