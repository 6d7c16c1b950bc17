import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { createCertificate, initCa } from '@keylime/pki/ca-folder';
import { readCrl } from '@keylime/pki/crl-file';
import { subjectNames } from '@keylime/pki/subject-names';
import { deliverToCrl } from './crl-channel.ts';

const SUBJECT = 'OU=53,O=Keylime,L=Lexington,ST=MA,CN=agent-1,C=US';

async function openCaFolder(t: TestContext) {
  const parent = await mkdtemp(path.join(tmpdir(), 'keylime-crl-channel-'));
  t.after(() => rm(parent, { recursive: true }));
  const folder = { dir: path.join(parent, 'ca'), password: 'p' };
  await initCa(folder);
  for (const name of ['agent-1', 'agent-2']) {
    await createCertificate(folder, { name, purposes: ['clientAuth'], names: subjectNames([name]) });
  }
  return folder;
}

const delivery = (message: object) => ({ body: JSON.stringify({ msg: JSON.stringify(message), signature: '' }) });
const metadata = (serial: unknown, subject: unknown = SUBJECT) => JSON.stringify({ cert_serial: serial, subject });

test("a revoked machine's certificate goes on the CRL, once however often it is delivered", async (t) => {
  const folder = await openCaFolder(t);
  const revocation = delivery({ type: 'revocation', agent_id: 'agent-1', meta_data: metadata(2) });
  assert.deepEqual(await deliverToCrl(folder, revocation), ['2']);
  const der = await readFile(path.join(folder.dir, 'cacrl.der'));
  assert.deepEqual(await deliverToCrl(folder, revocation), []);
  assert.deepEqual(await readFile(path.join(folder.dir, 'cacrl.der')), der);
});

test('machines out of reach and machines without a certificate lose none', async (t) => {
  const folder = await openCaFolder(t);
  for (const message of [
    { type: 'comm_error', meta_data: metadata(2) },
    { type: 'revocation', meta_data: '{}' },
    { type: 'revocation', meta_data: 'no JSON' },
    { type: 'revocation', meta_data: metadata('2') },
    { type: 'revocation', meta_data: metadata(2, 7) },
    { type: 'revocation' },
  ]) {
    assert.deepEqual(await deliverToCrl(folder, delivery(message)), []);
  }
  assert.deepEqual((await readCrl(folder.dir))?.revoked, []);
});

test('[MUST] a number of another CA takes nobody their certificate away', async (t) => {
  const folder = await openCaFolder(t);
  const wrong = delivery({ type: 'revocation', agent_id: 'agent-1', meta_data: metadata(3) });
  await assert.rejects(deliverToCrl(folder, wrong), { code: 'subject_mismatch' });
  assert.deepEqual((await readCrl(folder.dir))?.revoked, []);
});
