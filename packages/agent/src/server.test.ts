import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { connect, type TLSSocket } from 'node:tls';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { good } from '@keylime/core/parsed';
import { type ListenAddress, listenOn } from '@keylime/service/http-listen';
import { openLog } from '@keylime/service/log';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';
import type { FastifyInstance } from 'fastify';
import type { Attester } from './attester.ts';
import { openMeasurementList } from './measurement-list.ts';
import { buildAgentServer, changeCertificate, readClientCas } from './server.ts';

const ENTRY = `10 ${'0'.repeat(40)} ima-ng sha256:${'ab'.repeat(32)} /usr/bin/a-name-of-ordinary-length\n`;
const ENTRIES = 150_000;
const log = openLog({ name: 'x', level: 'critical', destination: { write: () => {} } });

let folder: string;
let ca: TestCa;
let client: TestIdentity;
let app: FastifyInstance;
let address: ListenAddress;

const serverTls = async (name: string) => {
  const { certPem, keyPem } = await ca.issue({ commonNames: [name], purpose: 'serverAuth' });
  return { certPem, keyPem, clientCaPems: [ca.certPem] };
};

before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'keylime-server-'));
  ca = await testCa();
  client = await ca.issue({ commonNames: ['verifier'], purpose: 'clientAuth' });
  writeFileSync(join(folder, 'list'), ENTRY.repeat(ENTRIES));
  const attester: Attester = {
    hashAlg: 'sha256',
    signAlg: 'rsassa',
    encAlg: 'rsa2048',
    akHandle: () => 1,
    quote: async () => 'r',
  };
  const services = {
    ...{ agentId: parseAgentId('a') as AgentId, apiVersions: ['2.6'] as const, attester, payloadKeyPem: '', log },
    measurementList: openMeasurementList(
      join(folder, 'list'),
      { read: async () => undefined, write: async () => {} },
      (cause) => assert.fail(String(cause)),
    ),
    bootLog: { read: () => undefined, close: () => {} },
    bootstrap: {
      receiveU: () => good(undefined),
      receiveV: () => good(undefined),
      answer: () => undefined,
      close: async () => {},
    },
    revocations: { offer: async () => true },
  };
  app = buildAgentServer(services, await serverTls('first'));
  address = await listenOn(app, { host: '127.0.0.1', port: 0 });
});
after(async () => {
  await app.close();
  rmSync(folder, { recursive: true });
});

const asClient = () => ({ cert: client.certPem, key: client.keyPem, rejectUnauthorized: false });

async function get(path: string): Promise<{ readonly text: string; readonly certificate: string }> {
  const call = request({ ...address, path, agent: false, ...asClient() }).end();
  const [answer] = await once(call, 'response');
  const certificate = (answer.socket as TLSSocket).getPeerX509Certificate()?.subject ?? '';
  const chunks: Buffer[] = [];
  for await (const chunk of answer) chunks.push(chunk);
  return { text: Buffer.concat(chunks).toString(), certificate };
}

const WHOLE = '/v2.6/quotes/integrity?nonce=a&mask=400&partial=1&ima_ml_entry=0';

test('a list of 150,000 entries arrives whole', async () => {
  const { results } = JSON.parse((await get(WHOLE)).text);
  assert.equal(results.ima_measurement_list, ENTRY.repeat(ENTRIES));
});

test('peers that ask for the long list and read nothing cost no memory and hold up nobody', async () => {
  const before = process.memoryUsage.rss();
  const lazy = await Promise.all(
    Array.from({ length: 20 }, async () => {
      const socket = connect({ ...address, ...asClient() });
      await once(socket, 'secureConnect');
      socket.pause().write(`GET ${WHOLE} HTTP/1.1\r\nHost: a\r\n\r\n`);
      return socket;
    }),
  );
  const { results } = JSON.parse((await get(`${WHOLE}`.replace('entry=0', `entry=${ENTRIES - 1}`))).text);
  assert.equal(results.ima_measurement_list, ENTRY);
  const grown = process.memoryUsage.rss() - before;
  assert.ok(grown < 20 * ENTRY.length * ENTRIES * 0.5, `${grown} bytes more for 20 unread answers`);
  for (const socket of lazy) socket.destroy();
});

test('another certificate is shown from the next connection on, and a client certificate is still required', async () => {
  assert.equal((await get('/version')).certificate, 'O=Keylime\nCN=first');
  changeCertificate(app, await serverTls('second'));
  assert.equal((await get('/version')).certificate, 'O=Keylime\nCN=second');
  const nobody = request({ ...address, path: '/version', agent: false, rejectUnauthorized: false }).end();
  await assert.rejects(once(nobody, 'response'));
});

test('[MUST] a list of client CAs without a usable one is refused', async () => {
  const [good, bad, none] = ['good', 'bad', 'none'].map((name) => join(folder, name)) as [string, string, string];
  writeFileSync(good, ca.certPem);
  writeFileSync(bad, 'no certificate');
  assert.deepEqual(await readClientCas([none, bad, good], log), [ca.certPem]);
  await assert.rejects(readClientCas([bad, none], log), { code: 'client_ca_unusable' });
});
