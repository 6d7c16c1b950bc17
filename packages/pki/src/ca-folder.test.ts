import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { createSecureContext } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { ensureCa, ensureCertificate, ensureClientCertificate, ensureServerCertificate } from './ca-folder.ts';
import { DEFAULT_CA_OPTIONS } from './ca-options.ts';
import { decryptKeyStore } from './key-store.ts';
import type { CaFolder } from './open-ca.ts';
import { PkiError, type PkiErrorCode } from './pki-error.ts';
import { findPrivateKey } from './private-key.ts';
import { subjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

const VECTOR = fileURLToPath(new URL('../../testing/vectors/python-cv-ca', import.meta.url));
const SPRING = new Date('2026-12-01T00:00:00Z');
const DAY_MS = 86_400_000;
const names = subjectNames(['localhost', 'verifier.example', '127.0.0.1', '::1']);

async function emptyFolder(t: TestContext): Promise<string> {
  const parent = await mkdtemp(join(tmpdir(), 'keylime-ca-'));
  t.after(() => rm(parent, { recursive: true }));
  return join(parent, 'cv_ca');
}

async function pythonFolder(t: TestContext, now = SPRING): Promise<CaFolder> {
  const dir = await emptyFolder(t);
  await cp(VECTOR, dir, { recursive: true });
  return { dir, now: () => now };
}

const certificate = async (dir: string, name: string) => new X509Certificate(await readFile(join(dir, name)));
const keyStore = async (dir: string, password = 'default') =>
  decryptKeyStore(await readFile(join(dir, 'private.yml'), 'utf8'), password);
const modeOf = async (path: string) => ((await stat(path)).mode & 0o777).toString(8);
const refusal = (code: PkiErrorCode) => (error: unknown) => error instanceof PkiError && error.code === code;

test('a new folder gets the files of the existing services, keys for the owner alone', async (t) => {
  const dir = await emptyFolder(t);
  assert.equal((await ensureCa({ dir })).provision, 'created');
  assert.equal((await ensureServerCertificate({ dir, names })).provision, 'created');
  assert.equal((await ensureClientCertificate({ dir })).provision, 'created');
  assert.deepEqual(
    (await readdir(dir)).sort(),
    [
      ...['ca-public.pem', 'cacert.crt', 'cacrl.der', 'cacrl.pem', 'client-cert.crt', 'client-private.pem', 'issued'],
      ...['client-public.pem', 'private.yml', 'server-cert.crt', 'server-private.pem', 'server-public.pem'],
    ].sort(),
  );
  assert.equal(await modeOf(dir), '700');
  for (const file of ['private.yml', 'server-private.pem', 'client-private.pem']) {
    assert.equal(await modeOf(join(dir, file)), '600', file);
  }
});

test('a server certificate is good for serving and a client certificate for administration, and for nothing else', async (t) => {
  const dir = await emptyFolder(t);
  await ensureCa({ dir });
  await ensureServerCertificate({ dir, names });
  await ensureClientCertificate({ dir });
  const ca = await certificate(dir, 'cacert.crt');
  const server = await certificate(dir, 'server-cert.crt');
  const client = await certificate(dir, 'client-cert.crt');
  assert.deepEqual(server.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  assert.deepEqual(client.keyUsage, ['1.3.6.1.5.5.7.3.2']);
  for (const leaf of [server, client]) {
    assert.ok(leaf.checkIssued(ca) && leaf.verify(ca.publicKey));
    assert.equal(leaf.ca, false);
    const parsed = new x509.X509Certificate(leaf.toString());
    assert.equal(parsed.getExtension(x509.KeyUsagesExtension)?.critical, true);
    const caId = new x509.X509Certificate(ca.toString()).getExtension(x509.SubjectKeyIdentifierExtension)?.keyId;
    assert.equal(parsed.getExtension(x509.AuthorityKeyIdentifierExtension)?.keyId, caId);
    assert.ok(parsed.getExtension(x509.SubjectKeyIdentifierExtension));
    assert.ok(parsed.getExtension(x509.CRLDistributionPointsExtension));
  }
  assert.deepEqual([ca.serialNumber, server.serialNumber, client.serialNumber], ['01', '02', '03']);
  assert.match(server.subject, /^C=US\nCN=server\nST=MA\nL=Lexington\nO=Keylime\nOU=53$/);
  assert.equal(
    server.subjectAltName,
    'DNS:localhost, DNS:verifier.example, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
  );
  assert.equal(client.subjectAltName, 'DNS:client');
});

test('a second start keeps everything', async (t) => {
  const dir = await emptyFolder(t);
  await ensureCa({ dir });
  await ensureServerCertificate({ dir, names });
  const before = await readFile(join(dir, 'server-cert.crt'));
  assert.equal((await ensureCa({ dir })).provision, 'kept');
  assert.equal((await ensureServerCertificate({ dir, names })).provision, 'kept');
  assert.deepEqual(await readFile(join(dir, 'server-cert.crt')), before);
});

test('a certificate is renewed when two thirds of its life are over, and not before', async (t) => {
  const dir = await emptyFolder(t);
  const at = (days: number): CaFolder => ({ dir, now: () => new Date(SPRING.getTime() + days * DAY_MS) });
  await ensureCa(at(0));
  await ensureClientCertificate(at(0));
  assert.equal((await ensureClientCertificate(at(243))).provision, 'kept');
  assert.equal((await ensureClientCertificate(at(244))).provision, 'renewed');
  assert.equal((await certificate(dir, 'client-cert.crt')).serialNumber, '03');
});

test('a certificate that lacks a wanted name, or fits no key, is made again', async (t) => {
  const dir = await emptyFolder(t);
  await ensureCa({ dir });
  await ensureServerCertificate({ dir, names });
  assert.equal((await ensureServerCertificate({ dir, names: subjectNames(['10.1.2.3']) })).provision, 'renewed');
  assert.ok((await certificate(dir, 'server-cert.crt')).checkIP('10.1.2.3'));
  await ensureClientCertificate({ dir });
  await cp(join(dir, 'client-private.pem'), join(dir, 'server-private.pem'));
  assert.equal((await ensureServerCertificate({ dir, names })).provision, 'renewed');
  const key = await findPrivateKey(join(dir, 'server-private.pem'));
  assert.ok(key && (await certificate(dir, 'server-cert.crt')).checkPrivateKey(key));
});

test('a peer whose clock is an hour behind takes the CA, its certificates and its CRL', async (t) => {
  const dir = await emptyFolder(t);
  const folder = { dir, now: () => SPRING };
  await ensureCa(folder);
  await ensureServerCertificate({ ...folder, names });
  const verify = (secondsBehind: number) => {
    const at = String(SPRING.getTime() / 1000 - secondsBehind);
    const files = [
      '-CAfile',
      join(dir, 'cacert.crt'),
      '-CRLfile',
      join(dir, 'cacrl.pem'),
      join(dir, 'server-cert.crt'),
    ];
    return spawnSync('openssl', ['verify', '-attime', at, '-crl_check', ...files], { encoding: 'utf8' });
  };
  assert.match(verify(3_600).stdout, /server-cert\.crt: OK/);
  assert.match(verify(3_601).stderr, /certificate is not yet valid/);
});

test('a certificate does not begin before its CA', async (t) => {
  const folder = await pythonFolder(t, new Date('2026-08-04T00:00:00Z'));
  const ca = await certificate(folder.dir, 'cacert.crt');
  const atBirth = { ...folder, now: () => ca.validFromDate };
  await ensureCertificate(atBirth, { name: 'alice', purposes: ['clientAuth'], names: subjectNames(['alice']) });
  assert.equal((await certificate(folder.dir, 'alice-cert.crt')).validFrom, ca.validFrom);
});

test('no certificate outlives its CA, and an expired CA is refused', async (t) => {
  const dir = await emptyFolder(t);
  const options = { ...DEFAULT_CA_OPTIONS, caLifetimeDays: 10 };
  await ensureCa({ dir, options, now: () => SPRING });
  const { notAfter } = await ensureClientCertificate({ dir, options, now: () => SPRING });
  assert.equal(notAfter.getTime(), SPRING.getTime() + 10 * DAY_MS);
  const late = { dir, options, now: () => new Date(SPRING.getTime() + 11 * DAY_MS) };
  await assert.rejects(ensureCa(late), refusal('ca_expired'));
  await assert.rejects(ensureClientCertificate(late), refusal('ca_expired'));
});

test('a folder of the existing services is read as it is', async (t) => {
  const folder = await pythonFolder(t);
  const before = await readFile(join(folder.dir, 'private.yml'));
  assert.equal((await ensureCa(folder)).provision, 'kept');
  assert.equal((await ensureServerCertificate({ ...folder, names })).provision, 'kept');
  assert.equal((await ensureClientCertificate(folder)).provision, 'kept');
  assert.deepEqual(await readFile(join(folder.dir, 'private.yml')), before);
  const store = await keyStore(folder.dir);
  assert.equal(store.lastSerial, 4);
  assert.deepEqual(store.revokedSerials, ['4']);
  assert.deepEqual([...store.keys.keys()].sort(), ['client', 'old', 'server']);
});

test('a CA of the existing services issues the next certificate and keeps what its key store held', async (t) => {
  const folder = await pythonFolder(t);
  await ensureCertificate(folder, { name: 'alice', purposes: ['clientAuth'], names: subjectNames(['alice']) });
  const ca = await certificate(folder.dir, 'cacert.crt');
  const alice = await certificate(folder.dir, 'alice-cert.crt');
  assert.ok(alice.checkIssued(ca) && alice.verify(ca.publicKey));
  assert.equal(alice.serialNumber, '05');
  const store = await keyStore(folder.dir);
  assert.equal(store.lastSerial, 5);
  assert.deepEqual(store.revokedSerials, ['4']);
  assert.deepEqual([...store.keys.keys()].sort(), ['alice', 'client', 'old', 'server']);
  assert.equal(store.keys.get('alice'), await readFile(join(folder.dir, 'alice-private.pem'), 'utf8'));
});

test('a CRL that is over is issued again, with the revocation dates it had', async (t) => {
  const folder = await pythonFolder(t);
  const crlOf = async () => new x509.X509Crl(Uint8Array.from(await readFile(join(folder.dir, 'cacrl.der'))));
  const revokedAt = (await crlOf()).entries[0]?.revocationDate;
  await ensureCa(folder);
  const crl = await crlOf();
  assert.ok(crl.nextUpdate && crl.nextUpdate > SPRING);
  assert.equal(crl.entries.length, 1);
  assert.equal(crl.entries[0]?.serialNumber, '04');
  assert.deepEqual(crl.entries[0]?.revocationDate, revokedAt);
  const ca = new x509.X509Certificate(await readFile(join(folder.dir, 'cacert.crt'), 'utf8'));
  assert.ok(await crl.verify({ publicKey: ca.publicKey }));
  assert.ok(createSecureContext({ crl: await readFile(join(folder.dir, 'cacrl.pem')) }));
});

test('a wrong CA password is refused and nothing is overwritten', async (t) => {
  const folder = { ...(await pythonFolder(t)), password: 'other' };
  const before = await readFile(join(folder.dir, 'private.yml'));
  await assert.rejects(
    ensureCertificate(folder, { name: 'alice', purposes: ['clientAuth'], names }),
    refusal('wrong_password'),
  );
  assert.deepEqual(await readFile(join(folder.dir, 'private.yml')), before);
});

test('a key with a password is kept encrypted and a wrong password is refused', async (t) => {
  const dir = await emptyFolder(t);
  await ensureCa({ dir });
  await ensureServerCertificate({ dir, names, keyPassword: 'secret' });
  assert.match(await readFile(join(dir, 'server-private.pem'), 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/);
  assert.equal((await ensureServerCertificate({ dir, names, keyPassword: 'secret' })).provision, 'kept');
  await assert.rejects(ensureServerCertificate({ dir, names, keyPassword: 'wrong' }), refusal('wrong_password'));
  await assert.rejects(ensureServerCertificate({ dir, names }), refusal('wrong_password'));
});

test('a folder without CA, a CA without its key store, and one with a strange key issue nothing', async (t) => {
  const dir = await emptyFolder(t);
  await ensureCa({ dir });
  const other = await pythonFolder(t);
  await cp(join(other.dir, 'private.yml'), join(dir, 'private.yml'));
  await assert.rejects(ensureClientCertificate({ dir }), refusal('key_mismatch'));
  await rm(join(dir, 'private.yml'));
  await assert.rejects(ensureClientCertificate({ dir }), refusal('ca_incomplete'));
  await rm(join(dir, 'cacert.crt'));
  await assert.rejects(ensureClientCertificate({ dir }), refusal('ca_incomplete'));
  await writeFile(join(dir, 'cacert.crt'), 'nothing');
  await assert.rejects(ensureClientCertificate({ dir }), refusal('malformed_certificate'));
});

test('a name that leaves the folder or is a word of the key store names no certificate', async (t) => {
  const folder = await pythonFolder(t);
  for (const name of ['../x', 'a/b', '', '.hidden', 'ca', 'lastserial', 'revoked_keys', 'a\0b']) {
    await assert.rejects(
      ensureCertificate(folder, { name, purposes: ['clientAuth'], names }),
      refusal('invalid_name'),
      name,
    );
  }
});

test('programs that start at once make one CA, and every certificate has its own serial number', async (t) => {
  const dir = await emptyFolder(t);
  const made = await Promise.all([1, 2, 3].map(() => ensureCa({ dir })));
  assert.deepEqual(made.map((ca) => ca.provision).sort(), ['created', 'kept', 'kept']);
  assert.equal(new Set(made.map((ca) => ca.certificatePem)).size, 1);
  await Promise.all(
    ['a', 'b', 'c'].map((name) => ensureCertificate({ dir }, { name, purposes: ['clientAuth'], names })),
  );
  const serials = await Promise.all(
    ['a', 'b', 'c'].map(async (n) => (await certificate(dir, `${n}-cert.crt`)).serialNumber),
  );
  assert.deepEqual(serials.sort(), ['02', '03', '04']);
});
