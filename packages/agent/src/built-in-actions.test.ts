import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { ensureCa, ensureCertificate } from '@keylime/pki/ca-folder';
import { readCrl } from '@keylime/pki/crl-file';
import { subjectText } from '@keylime/pki/rfc4514';
import { subjectNames } from '@keylime/pki/subject-names';
import { openLog } from '@keylime/service/log';
import { openBuiltInActions } from './built-in-actions.ts';
import { parseRevocationNotice } from './revocation-notice.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-built-in-'));
const dir = join(folder, 'ca');
const ca = { dir, password: 'secret' };
after(() => rmSync(folder, { recursive: true }));

let certificate: { readonly serial: string; readonly subject: string };
before(async () => {
  await ensureCa(ca);
  const { certificatePath } = await ensureCertificate(ca, {
    name: 'm7',
    purposes: ['clientAuth'],
    names: subjectNames(['m7']),
  });
  const pem = readFileSync(certificatePath, 'utf8');
  certificate = {
    serial: BigInt(`0x${new X509Certificate(pem).serialNumber}`).toString(),
    subject: subjectText(new X509Certificate(pem)),
  };
});

const OFF = {
  revocation_block_peer: false,
  revocation_block_never: [],
  revocation_crl_ca_dir: undefined,
  revocation_crl_ca_password: '',
};
const CRL = { ...OFF, revocation_crl_ca_dir: dir, revocation_crl_ca_password: 'secret' };

/** Of the last `act`. */
const ends: string[] = [];

async function act(settings: typeof OFF | typeof CRL, changes: Readonly<Record<string, unknown>>): Promise<string> {
  const lines: string[] = [];
  ends.length = 0;
  const log = openLog({ name: 'agent', destination: { write: (line) => lines.push(line) } });
  const metaData = JSON.stringify({ cert_serial: Number(certificate.serial), subject: certificate.subject });
  const notice = parseRevocationNotice(
    JSON.stringify({ type: 'revocation', agent_id: 'm7', ip: '10.1.2.3', meta_data: metaData, ...changes }),
  );
  assert.ok(notice);
  for (const action of await openBuiltInActions(settings, 'me', log)) ends.push(await action.act(notice));
  return lines.join('');
}

const listed = async () => (await readCrl(dir))?.revoked.map(({ serial }) => serial);

test('nothing is done unless it is switched on', async () => {
  assert.equal(await act(OFF, {}), '');
  assert.deepEqual(await listed(), []);
});

test('a machine that is only out of reach, and one without a certificate, change nothing', async () => {
  assert.equal(await act(CRL, { type: 'comm_error' }), '');
  assert.match(await act(CRL, { meta_data: '{}' }), /INFO - The revoked machine has no certificate/);
  assert.deepEqual(await listed(), []);
});

test('[MUST] a certificate of another CA is not mistaken for one of this', async () => {
  const foreign = JSON.stringify({ cert_serial: Number(certificate.serial), subject: 'CN=other' });
  assert.match(
    await act(CRL, { meta_data: foreign }),
    /ERROR - The certificate of the revoked machine cannot be put on/,
  );
  const unknown = JSON.stringify({ cert_serial: 999, subject: certificate.subject });
  assert.match(
    await act(CRL, { meta_data: unknown }),
    /ERROR - The certificate of the revoked machine cannot be put on/,
  );
  assert.deepEqual(await listed(), []);
  // Another day changes nothing about it.
  assert.deepEqual(ends, ['done']);
});

test('[MUST] a CA that is out of order for a while is asked again', async () => {
  const lines: string[] = [];
  const log = openLog({ name: 'agent', destination: { write: (line) => lines.push(line) } });
  const [action] = await openBuiltInActions(CRL, 'me', log);
  const notice = parseRevocationNotice(
    JSON.stringify({
      type: 'revocation',
      meta_data: JSON.stringify({ cert_serial: Number(certificate.serial), subject: certificate.subject }),
    }),
  );
  assert.ok(action && notice);
  renameSync(dir, `${dir}.away`);
  assert.equal(await action.act(notice), 'retry');
  renameSync(`${dir}.away`, dir);
  assert.match(
    lines.join(''),
    /ERROR - The certificate of the revoked machine cannot be put on the CRL: it is tried again/,
  );
});

test('the certificate of a revoked machine goes on the CRL, once, and openssl says so', async () => {
  assert.match(await act(CRL, {}), /INFO - The certificate of the revoked machine is on the CRL/);
  await act(CRL, {});
  assert.deepEqual(await listed(), [certificate.serial]);
  const file = join(folder, 'with-crl.pem');
  writeFileSync(file, readFileSync(join(dir, 'cacert.crt'), 'utf8') + readFileSync(join(dir, 'cacrl.pem'), 'utf8'));
  const check = ['verify', '-crl_check', '-CAfile', file, join(dir, 'm7-cert.crt')];
  assert.throws(() => execFileSync('openssl', check, { stdio: 'pipe' }), /certificate revoked/);
});

test('[MUST] a CA that cannot be used is told at start', async () => {
  for (const settings of [
    { ...CRL, revocation_crl_ca_password: 'wrong' },
    { ...CRL, revocation_crl_ca_dir: join(folder, 'nothing') },
  ]) {
    await assert.rejects(act(settings, {}), { code: 'action_unavailable', message: /revocation_crl_ca_dir/ });
  }
});
