import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { createCertificate, initCa } from '@keylime/pki/ca-folder';
import { readCrl } from '@keylime/pki/crl-file';
import { revokeName } from '@keylime/pki/revocation';
import { subjectNames } from '@keylime/pki/subject-names';
import { openLog } from '@keylime/service/log';
import { serveCrl } from './crl-server.ts';

const log = openLog({ name: 'test', destination: { write: () => true } });
const DAY_MS = 86_400_000;

async function openServer(t: TestContext, url = 'http://localhost:38080/crl') {
  const parent = mkdtempSync(path.join(tmpdir(), 'keylime-crl-'));
  t.after(() => rmSync(parent, { recursive: true }));
  let clock = Date.now();
  const folder = { dir: path.join(parent, 'ca'), password: 'p', now: () => new Date(clock) };
  await initCa(folder);
  const server = await serveCrl({ folder, renews: true, url, port: 0, log, now: () => clock });
  t.after(() => server.close());
  return {
    folder,
    server,
    base: `http://${server.address.host}:${server.address.port}`,
    advance: (days: number) => {
      clock += days * DAY_MS;
    },
  };
}

test('the CRL is at the path of the distribution point, as DER and as PEM, and caches are told how long it holds', async (t) => {
  const { base, folder } = await openServer(t);
  const der = await fetch(`${base}/crl`);
  assert.equal(der.headers.get('content-type'), 'application/pkix-crl');
  assert.equal(der.headers.get('cache-control'), 'public, max-age=60, must-revalidate');
  assert.deepEqual(Buffer.from(await der.arrayBuffer()), readFileSync(path.join(folder.dir, 'cacrl.der')));
  const pem = await fetch(`${base}/crl.pem`);
  assert.equal(
    (await pem.text()).replace(/\s/g, ''),
    readFileSync(path.join(folder.dir, 'cacrl.pem'), 'latin1').replace(/\s/g, ''),
  );
  const head = await fetch(`${base}/crl`, { method: 'HEAD' });
  assert.equal(head.status, 200);
  assert.equal((await head.arrayBuffer()).byteLength, 0);
  const headers = { 'if-none-match': der.headers.get('etag') ?? '' };
  assert.equal((await fetch(`${base}/crl`, { headers })).status, 304);
  const since = { 'if-modified-since': der.headers.get('last-modified') ?? '' };
  assert.equal((await fetch(`${base}/crl`, { headers: since })).status, 304);
  assert.equal((await fetch(`${base}/private.yml`)).status, 404);
  assert.equal((await fetch(`${base}/crl`, { method: 'POST' })).status, 405);
});

test('a revocation by another program is served at once', async (t) => {
  const { base, folder } = await openServer(t);
  const before = await fetch(`${base}/crl`);
  await createCertificate(folder, { name: 'x', purposes: [], names: subjectNames(['x']) });
  await revokeName(folder, 'x');
  const headers = { 'if-none-match': before.headers.get('etag') ?? '' };
  const after = await fetch(`${base}/crl`, { headers });
  assert.equal(after.status, 200);
  assert.deepEqual(Buffer.from(await after.arrayBuffer()), (await readCrl(folder.dir))?.der);
});

test('the CRL is renewed before it ends', async (t) => {
  const { folder, server, advance } = await openServer(t);
  const before = await readCrl(folder.dir);
  advance(19);
  await server.renew();
  assert.deepEqual((await readCrl(folder.dir))?.der, before?.der);
  advance(2);
  await server.renew();
  const after = await readCrl(folder.dir);
  assert.ok((after?.nextUpdate ?? 0) > (before?.nextUpdate ?? 0));
});

test('a CRL that is damaged is not served', async (t) => {
  const { base, folder } = await openServer(t);
  rmSync(path.join(folder.dir, 'cacrl.der'));
  const answer = await fetch(`${base}/crl`);
  assert.equal(answer.status, 503);
});

test('a distribution point that HTTP cannot serve is refused', async (t) => {
  for (const url of ['https://ca.example/crl', 'ldap://ca.example/crl', 'nonsense', 'http://ca.example/:name']) {
    await assert.rejects(openServer(t, url), { code: 'invalid_name' }, url);
  }
});
