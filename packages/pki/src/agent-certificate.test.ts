import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { ensureAgentCertificate } from './agent-certificate.ts';
import { ensureCa, ensureServerCertificate } from './ca-folder.ts';
import { PkiError } from './pki-error.ts';
import { ensureRsaKey } from './private-key.ts';
import { subjectNames } from './subject-names.ts';

const DAY_MS = 86_400_000;
const NOW = new Date('2026-12-01T00:00:00Z');
const later = (days: number) => new Date(NOW.getTime() + days * DAY_MS);
const refusal = (code: string) => (error: unknown) => error instanceof PkiError && error.code === code;

async function place(t: TestContext) {
  const dir = await mkdtemp(join(tmpdir(), 'keylime-agent-'));
  t.after(() => rm(dir, { recursive: true }));
  return {
    certificatePath: join(dir, 'server-cert.crt'),
    keyPath: join(dir, 'server-private.pem'),
    agentId: 'agent-1',
    now: NOW,
  };
}

test('a new agent gets a self-signed certificate that verifies, for itself alone', async (t) => {
  const at = await place(t);
  const made = await ensureAgentCertificate({ ...at, contactIp: '10.0.0.5' });
  assert.equal(made.provision, 'created');
  const certificate = new X509Certificate(made.certificatePem);
  assert.ok(certificate.verify(certificate.publicKey));
  assert.equal(certificate.subject, 'CN=agent-1');
  assert.equal(certificate.issuer, 'CN=agent-1');
  assert.match(certificate.serialNumber, /^[4-7][0-9A-F]{31}$/);
  assert.deepEqual(certificate.keyUsage, ['1.3.6.1.5.5.7.3.1']);
  assert.equal(
    certificate.subjectAltName,
    'DNS:localhost, IP Address:10.0.0.5, IP Address:127.0.0.1, IP Address:0:0:0:0:0:0:0:1',
  );
  assert.equal(certificate.validToDate.getTime() - NOW.getTime(), 365 * DAY_MS);
  assert.equal(NOW.getTime() - certificate.validFromDate.getTime(), DAY_MS, 'clocks may differ');
  assert.ok(certificate.checkPrivateKey(made.key));
  assert.equal(made.key.asymmetricKeyDetails?.namedCurve, 'prime256v1');
  assert.equal(((await stat(at.keyPath)).mode & 0o777).toString(8), '600');
});

test('a contact address that is a host name becomes a DNS name', async (t) => {
  const made = await ensureAgentCertificate({ ...(await place(t)), contactIp: 'agent.example' });
  assert.match(new X509Certificate(made.certificatePem).subjectAltName ?? '', /DNS:agent\.example/);
});

test('files that are there are used until 30 days before the end, then the same key gets a new certificate', async (t) => {
  const at = await place(t);
  const first = await ensureAgentCertificate(at);
  const kept = await ensureAgentCertificate({ ...at, now: later(333) });
  assert.equal(kept.provision, 'kept');
  assert.equal(kept.certificatePem, first.certificatePem);
  assert.equal(kept.leafPem, first.leafPem);
  const renewed = await ensureAgentCertificate({ ...at, now: later(335) });
  assert.equal(renewed.provision, 'renewed');
  assert.notEqual(renewed.leafPem, first.leafPem);
  assert.ok(renewed.key.equals(first.key));
  assert.equal((await ensureAgentCertificate({ ...at, now: later(800) })).provision, 'renewed');
});

test('the key is encrypted with the password and a wrong password is refused', async (t) => {
  const at = await place(t);
  await ensureAgentCertificate({ ...at, password: 'pass' });
  assert.match(await readFile(at.keyPath, 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/);
  assert.equal((await ensureAgentCertificate({ ...at, password: 'pass' })).provision, 'kept');
  await assert.rejects(ensureAgentCertificate({ ...at, password: 'no' }), refusal('wrong_password'));
});

test("an agent's own RSA key is used for its certificate", async (t) => {
  const at = await place(t);
  const key = await ensureRsaKey(at.keyPath, 2048);
  const made = await ensureAgentCertificate(at);
  assert.ok(made.key.equals(key));
  const certificate = new X509Certificate(made.certificatePem);
  assert.ok(certificate.verify(certificate.publicKey));
});

test('a key that does not belong to the certificate is refused', async (t) => {
  const [at, other] = [await place(t), await place(t)];
  await ensureAgentCertificate(at);
  await ensureAgentCertificate(other);
  await copyFile(other.keyPath, at.keyPath);
  await assert.rejects(ensureAgentCertificate(at), refusal('key_mismatch'));
});

test('a certificate that a CA issued is used to its end and never replaced', async (t) => {
  const at = await place(t);
  const dir = join(at.keyPath, '..', 'ca');
  await ensureCa({ dir, now: () => NOW });
  const issued = await ensureServerCertificate({ dir, now: () => NOW, names: subjectNames(['agent']) });
  await copyFile(issued.certificatePath, at.certificatePath);
  await copyFile(issued.privateKeyPath, at.keyPath);
  assert.equal((await ensureAgentCertificate({ ...at, now: later(360) })).provision, 'kept');
  await assert.rejects(ensureAgentCertificate({ ...at, now: later(366) }), refusal('certificate_expired'));
  await rm(at.keyPath);
  await assert.rejects(ensureAgentCertificate(at), refusal('key_mismatch'));
  assert.deepEqual(await readFile(at.certificatePath), await readFile(issued.certificatePath));
});

test('a file that is no certificate is refused and left as it is', async (t) => {
  const at = await place(t);
  await writeFile(at.certificatePath, 'nothing');
  await assert.rejects(ensureAgentCertificate(at), refusal('malformed_certificate'));
  assert.equal(await readFile(at.certificatePath, 'utf8'), 'nothing');
});
