import assert from 'node:assert/strict';
import { createPrivateKey, randomBytes, X509Certificate } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { isRevocationSigned, signRevocation } from '@keylime/payload/revocation-signature';
import { DEFAULT_CA_OPTIONS } from '@keylime/pki/ca-options';
import { secretVault } from '../secret-vault.ts';
import { openRevocationSigner, type RevocationSigner } from './revocation-signer.ts';

const DAY_MS = 86_400_000;
const START = new Date('2026-01-01T00:00:00Z');
const after = (days: number) => new Date(START.getTime() + days * DAY_MS);

async function folderOf(t: TestContext): Promise<string> {
  const parent = await mkdtemp(path.join(tmpdir(), 'keylime-signer-'));
  t.after(() => rm(parent, { recursive: true }));
  return path.join(parent, 'revocation_keys');
}

const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
const vault = secretVault([oldKey], 'revocation_keys');

const open = (folder: string, now = START, lifetimeDays = 100) =>
  openRevocationSigner({ folder, vault, certificate: DEFAULT_CA_OPTIONS, lifetimeDays, now });

const publicKeys = (pem: string) =>
  (pem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n?/g) ?? []).map((one) => new X509Certificate(one).publicKey);

/** Which of the published certificates, by position, takes what this signer signs. */
const takers = (signer: RevocationSigner, pem: string): readonly number[] =>
  publicKeys(pem).flatMap((key, n) => (isRevocationSigned(key, 'm', signRevocation(signer.key(), 'm')) ? [n] : []));

test('keys are made once, for the service alone, and found again by the next process', async (t) => {
  const folder = await folderOf(t);
  const first = await open(folder);
  const second = await open(folder);
  assert.equal(second.certificates(), first.certificates());
  assert.deepEqual(takers(second, first.certificates()), [0]);
  for (const name of ['current.pem', 'next.pem']) {
    assert.equal((await stat(path.join(folder, name))).mode & 0o777, 0o600);
  }
  const published = await readFile(path.join(folder, 'certificates.pem'), 'utf8');
  assert.equal(published, first.certificates());
  assert.ok(!published.includes('PRIVATE'));
});

test('[MUST] whoever has the certificates of before a rotation takes what is signed after it, and the other way round', async (t) => {
  const signer = await open(await folderOf(t));
  const before = signer.certificates();
  const late = signRevocation(signer.key(), 'late');
  assert.equal(await signer.rotateIfDue(after(99)), false);
  assert.equal(await signer.rotateIfDue(after(101)), true);
  assert.deepEqual(takers(signer, before), [1]);
  assert.deepEqual(takers(signer, signer.certificates()), [0]);
  assert.ok(publicKeys(signer.certificates()).some((key) => isRevocationSigned(key, 'late', late)));
  assert.equal(await signer.rotateIfDue(after(102)), false);
  assert.equal(await signer.rotateIfDue(after(202)), true);
  assert.deepEqual(takers(signer, before), [], 'two rotations are too many');
});

test('a rotation is remembered by the next process, and a lifetime of 0 never ends', async (t) => {
  const folder = await folderOf(t);
  const signer = await open(folder);
  await signer.rotateIfDue(after(101));
  const next = await open(folder, after(102));
  assert.equal(next.certificates(), signer.certificates());
  assert.equal(await next.rotateIfDue(after(102)), false);
  assert.equal(await (await open(folder, after(9999), 0)).rotateIfDue(after(9999)), false);
});

test('a rotation that was cut off in the middle is finished by the next process', async (t) => {
  const folder = await folderOf(t);
  const before = (await open(folder)).certificates();
  await writeFile(path.join(folder, 'current.pem'), await readFile(path.join(folder, 'next.pem')));
  const signer = await open(folder);
  assert.deepEqual(takers(signer, before), [1]);
  assert.equal(
    new Set(publicKeys(signer.certificates()).map((key) => key.export({ type: 'spki', format: 'pem' }))).size,
    2,
  );
});

test('a file that is no key with its certificate is refused, with what to do', async (t) => {
  const folder = await folderOf(t);
  await open(folder);
  const next = await readFile(path.join(folder, 'next.pem'), 'utf8');
  const current = await readFile(path.join(folder, 'current.pem'), 'utf8');
  const [certificate = '', sealed = ''] = current.split('sealed key: ');
  for (const [text, code] of [
    ['', 'signing_key_unusable'],
    [certificate, 'signing_key_unusable'],
    [certificate + next.slice(next.indexOf('sealed key: ')), 'secret_damaged'],
    [current.replace(sealed, `${sealed.slice(0, -9)}AAAAAAA=\n`), 'secret_damaged'],
  ] as const) {
    await writeFile(path.join(folder, 'current.pem'), text);
    await assert.rejects(open(folder), { code });
  }
});

test('[MUST] whoever reads the folder has no key: neither a new one, nor one of before, nor one of a rotation', async (t) => {
  const folder = await folderOf(t);
  const signer = await open(folder);
  await signer.rotateIfDue(after(101));
  for (const name of await readdir(folder)) {
    const text = await readFile(path.join(folder, name), 'utf8');
    assert.throws(() => createPrivateKey(text), name);
  }
  assert.deepEqual(takers(await open(folder), signer.certificates()), [0], 'the service has it');
});

test('a key that an earlier version left in the clear goes on signing, and is sealed', async (t) => {
  const folder = await folderOf(t);
  const signer = await open(folder);
  const file = path.join(folder, 'current.pem');
  const clear = signer.key().export({ format: 'pem', type: 'pkcs8' });
  const [certificate = ''] = (await readFile(file, 'utf8')).split('sealed key: ');
  await writeFile(file, `${certificate}${clear}`);
  assert.deepEqual(takers(await open(folder), signer.certificates()), [0]);
  assert.ok(!(await readFile(file, 'utf8')).includes('PRIVATE'));
});

test('a new secret key in front seals the keys again, after which the old one can go', async (t) => {
  const folder = await folderOf(t);
  const { certificates } = await open(folder);
  const openWith = (...keys: readonly [Buffer, ...Buffer[]]) =>
    openRevocationSigner({
      folder,
      vault: secretVault(keys, 'revocation_keys'),
      certificate: DEFAULT_CA_OPTIONS,
      lifetimeDays: 100,
      now: START,
    });
  await assert.rejects(openWith(newKey), { code: 'key_not_configured', message: /secret_keys/ });
  await openWith(newKey, oldKey);
  assert.equal((await openWith(newKey)).certificates(), certificates());
  await assert.rejects(openWith(oldKey), { code: 'key_not_configured' });
});
