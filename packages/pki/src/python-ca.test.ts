import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { readZip, storedZip } from '@keylime/payload/archive';
import { createCertificate } from './ca-folder.ts';
import { certificatePackages } from './certificate-package.ts';
import { readCrl } from './crl-file.ts';
import { decryptKeyStore } from './key-store.ts';
import { type CaFolder, issuedCertificates } from './open-ca.ts';
import { revokeMachine, revokeName, revokeSerials } from './revocation.ts';
import { subjectText } from './rfc4514.ts';
import { subjectNames } from './subject-names.ts';

// A folder that the existing keylime_ca made; its README says how.
const VECTOR = fileURLToPath(new URL('../../testing/vectors/python-ca', import.meta.url));
const ALPHA = 'OU=53,O=Keylime,L=Lexington,ST=MA,CN=alpha,C=US';

async function pythonFolder(t: TestContext): Promise<CaFolder> {
  const parent = await mkdtemp(join(tmpdir(), 'keylime-python-ca-'));
  t.after(() => rm(parent, { recursive: true }));
  await cp(VECTOR, join(parent, 'ca'), { recursive: true });
  return { dir: join(parent, 'ca'), password: 'interop', now: () => new Date('2026-12-01T00:00:00Z') };
}

const revokedOf = async ({ dir }: CaFolder) => (await readCrl(dir))?.revoked.map(({ serial }) => serial);

test('our package of a certificate has the entries of the existing one, in its order', async (t) => {
  const folder = await pythonFolder(t);
  const theirs = await readZip(await readFile(join(folder.dir, 'alpha-pkg.zip')));
  const [{ files, serial, subject }] = await certificatePackages(folder, ['alpha']);
  const ours = await readZip(await storedZip(files, new Date(0)));
  assert.ok(theirs.ok && ours.ok);
  assert.deepEqual(
    ours.value.map(({ name }) => name),
    theirs.value.map(({ name }) => name),
  );
  const contentOf = (entries: typeof theirs.value, name: string) =>
    entries.flatMap((entry) =>
      entry.type === 'file' && entry.name === name ? [entry.content.toString('base64')] : [],
    );
  for (const name of ['alpha-public.pem', 'alpha-cert.crt', 'alpha-private.pem', 'cacert.crt']) {
    assert.deepEqual(contentOf(ours.value, name), contentOf(theirs.value, name), name);
  }
  assert.deepEqual([serial, subject], [2, ALPHA]);
});

test('certificates of the existing program are listed, revoked, and stay revoked', async (t) => {
  const folder = await pythonFolder(t);
  assert.deepEqual(
    (await issuedCertificates(folder)).map(({ name }) => name),
    ['alpha', 'beta'],
  );
  assert.deepEqual(await revokedOf(folder), ['3']);
  const before = (await readCrl(folder.dir))?.revoked[0]?.revokedAt;
  assert.deepEqual(await revokeName(folder, 'alpha'), { added: ['2'], already: [] });
  assert.deepEqual(await revokedOf(folder), ['3', '2']);
  assert.deepEqual((await readCrl(folder.dir))?.revoked[0]?.revokedAt, before);
  const store = await decryptKeyStore(await readFile(join(folder.dir, 'private.yml'), 'utf8'), 'interop');
  assert.deepEqual(store.revokedSerials, ['3', '2']);
});

test('a machine is revoked with every certificate that it may still hold, once', async (t) => {
  const folder = await pythonFolder(t);
  await createCertificate(folder, { name: 'alpha', purposes: [], names: subjectNames(['alpha']) });
  const machine = { serial: '4', subject: ALPHA };
  // The existing program keeps no copy of a certificate that is replaced: only its serial number is known.
  assert.deepEqual(await revokeMachine(folder, machine), { added: ['4'], already: [] });
  assert.deepEqual(await revokeMachine(folder, { serial: '2', subject: ALPHA }), { added: ['2'], already: ['4'] });
  const der = await readFile(join(folder.dir, 'cacrl.der'));
  assert.deepEqual(await revokeMachine(folder, machine), { added: [], already: ['4'] });
  assert.deepEqual(await readFile(join(folder.dir, 'cacrl.der')), der);

  await createCertificate(folder, { name: 'gamma', purposes: [], names: subjectNames(['gamma']) });
  await createCertificate(folder, { name: 'gamma', purposes: [], names: subjectNames(['gamma']) });
  const gamma = { serial: '6', subject: ALPHA.replace('alpha', 'gamma') };
  assert.deepEqual(await revokeMachine(folder, gamma), { added: ['6', '5'], already: [] });
});

test('[MUST] the serial number of another CA does not revoke the certificate of somebody else', async (t) => {
  const folder = await pythonFolder(t);
  for (const machine of [
    { serial: '2', subject: ALPHA.replace('alpha', 'stranger') },
    { serial: '99', subject: ALPHA.replace('alpha', 'stranger') },
    { serial: '3', subject: ALPHA },
  ]) {
    await assert.rejects(revokeMachine(folder, machine), { code: 'subject_mismatch' });
  }
  await assert.rejects(revokeMachine(folder, { serial: '99', subject: ALPHA }), { code: 'invalid_serial' });
  assert.deepEqual(await revokedOf(folder), ['3']);
});

test('a CRL that a crash left behind the key store is made good by the same revocation', async (t) => {
  const folder = await pythonFolder(t);
  const stale = await readFile(join(folder.dir, 'cacrl.der'));
  await revokeSerials(folder, ['2']);
  await writeFile(join(folder.dir, 'cacrl.der'), stale);
  assert.deepEqual(await revokeSerials(folder, ['2']), { added: [], already: ['2'] });
  assert.deepEqual(await revokedOf(folder), ['3', '2']);
});

test('subjects are told as RFC 4514 says, with the characters that mean something marked', () => {
  const subject = '/C=US/CN=#a, "b"\\+c/O=x=1';
  const args = ['req', '-x509', '-newkey', 'ed25519', '-nodes', '-keyout', '/dev/null', '-subj', subject];
  const pem = execFileSync('openssl', args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  assert.equal(subjectText(new X509Certificate(pem)), 'O=x=1,CN=\\#a\\, \\"b\\"\\+c,C=US');
});
