import assert from 'node:assert/strict';
import { chown, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { createCertificate, initCa } from '@keylime/pki/ca-folder';
import { DEFAULT_CA_OPTIONS } from '@keylime/pki/ca-options';
import { readCrl } from '@keylime/pki/crl-file';
import { subjectNames } from '@keylime/pki/subject-names';
import { openLog } from '@keylime/service/log';
import { crlChannel, deliverToCrl } from './crl-channel.ts';
import type { Delivery } from './outbox.ts';

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

function channel(dir: string, use: 'required' | 'if_present', password: string) {
  const lines: string[] = [];
  const log = openLog({ name: 'x', destination: { write: (line) => lines.push(line) } });
  const deliver = crlChannel({ dir, use, password: () => password, options: DEFAULT_CA_OPTIONS }, log);
  const revocation = delivery({ type: 'revocation', meta_data: metadata(2) });
  return { lines, deliver: () => deliver({ ...revocation, agentId: 'agent-1' } as Delivery) };
}

test('where there is no CA somebody else has to revoke, and is told; only who asked for the channel waits for a CA', async (t) => {
  const { dir } = await openCaFolder(t);
  const absent = path.join(dir, 'nowhere');
  const { deliver, lines } = channel(absent, 'if_present', 'p');
  await deliver();
  assert.match(lines.join(), /WARNING - .* is on no CRL: there is no CA here .*agent=agent-1/);
  await assert.rejects(
    channel(absent, 'required', 'p').deliver(),
    (error: Error) => error.name !== 'UndeliverableError',
  );
});

test('a CA that does not open is given up at once, unless the channel was asked for', async (t) => {
  const { dir } = await openCaFolder(t);
  await assert.rejects(channel(dir, 'if_present', 'wrong').deliver(), { code: 'undeliverable', message: /password/ });
  await assert.rejects(channel(dir, 'required', 'wrong').deliver(), { code: 'wrong_password' });
});

test("[MUST] a CA of another user's is left alone unless the channel was asked for", {
  skip: process.geteuid?.() !== 0 && 'only root can give files away',
}, async (t) => {
  const { dir } = await openCaFolder(t);
  await chown(dir, 12_345, 12_345);
  await assert.rejects(channel(dir, 'if_present', 'p').deliver(), { code: 'undeliverable', message: /another user/ });
  assert.deepEqual((await readCrl(dir))?.revoked, []);
  await channel(dir, 'required', 'p').deliver();
  assert.equal((await readCrl(dir))?.revoked.length, 1);
});
