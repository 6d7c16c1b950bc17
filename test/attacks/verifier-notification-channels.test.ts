import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { consumeRevocations } from '@keylime/agent/nats-revocations';
import { openRevocations } from '@keylime/agent/revocations';
import { subscribeToRevocations } from '@keylime/agent/zmq-revocations';
import { createCertificate, initCa } from '@keylime/pki/ca-folder';
import { readCrl } from '@keylime/pki/crl-file';
import { subjectNames } from '@keylime/pki/subject-names';
import { openLog } from '@keylime/service/log';
import { connectNats } from '@keylime/service/nats-connection';
import { type NatsServer, startNatsServer } from '@keylime/testing/nats-server';
import { type TestCa, type TestIdentity, testCa } from '@keylime/testing/test-certificates';
import { jetstreamManager } from '@nats-io/jetstream';
import { type AttackedVerifier, eventually, freePort, offend, startAttackedVerifier } from './verifier-harness.ts';

/*
 * ZeroMQ, NATS and the CRL, each with real receivers: whatever happens to those, or to the verifier, an alarm arrives.
 */
async function notifying(
  t: TestContext,
  settings: Readonly<Record<string, string>>,
  process = false,
): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier({ settings, process });
  t.after(() => verifier.stop());
  return verifier;
}

/** An agent's subscription; it comes back fifty times a second. */
function subscriberOf(t: TestContext, port: number) {
  const offered: { msg: string; signature: string }[] = [];
  const revocations = { offer: async (one: { msg: string; signature: string }) => offered.push(one) > 0 };
  const log = openLog({ name: 'keylime.agent', level: 'error' });
  const subscription = subscribeToRevocations({ host: '127.0.0.1', port, revocations, log, reconnectMs: 20 });
  t.after(() => subscription.close());
  return { reported: () => offered.map(({ msg }) => String(JSON.parse(msg).agent_id)), close: subscription.close };
}

test('all that subscribe over ZeroMQ hear of a machine; what nobody subscribed to waits for somebody', async (t) => {
  const zmq_port = await freePort();
  const settings = { enabled_revocation_notifications: "['zeromq']", zmq_port: String(zmq_port) };
  const verifier = await notifying(t, settings);
  await offend(verifier, 'unheard');
  await eventually(verifier, 'it was not tried', () => /nobody subscribes over ZeroMQ/.test(verifier.log()));
  const first = subscriberOf(t, zmq_port);
  await eventually(verifier, 'what waited did not come', () => first.reported().includes('unheard'));
  const second = subscriberOf(t, zmq_port);
  await offend(verifier, 'heard');
  for (const one of [first, second]) {
    await eventually(verifier, 'nothing came', () => one.reported().includes('heard'));
  }
  assert.deepEqual(first.reported(), ['unheard', 'heard']);
});

test('[MUST] a verifier that is killed gives its ZeroMQ subscribers time to come back before it publishes', async (t) => {
  const zmq_port = await freePort();
  const settings = { enabled_revocation_notifications: "['zeromq']", zmq_port: String(zmq_port) };
  const verifier = await notifying(t, settings, true);
  await offend(verifier, 'orphaned');
  await verifier.kill();
  const quick = subscriberOf(t, zmq_port);
  await verifier.start();
  await sleep(2000);
  const slow = subscriberOf(t, zmq_port);
  for (const one of [quick, slow]) {
    await eventually(verifier, 'nothing came', () => one.reported().includes('orphaned'));
  }
});

const natsSettings = (server: NatsServer, scheme = 'nats') => ({
  enabled_revocation_notifications: "['nats']",
  nats_url: `['${scheme}://127.0.0.1:${server.port}']`,
});

/** All that the stream holds. */
async function stored(server: NatsServer, secured?: { readonly ca: TestCa; readonly admin: TestIdentity }) {
  const client = await connectNats({
    servers: [`${secured ? 'tls' : 'nats'}://127.0.0.1:${server.port}`],
    name: 'test',
    login: undefined,
    tls: { trustedCas: [secured?.ca.certPem ?? ''], certificate: secured?.admin ?? { certPem: '', keyPem: '' } },
  });
  try {
    const { streams } = await jetstreamManager(client);
    const { state } = await streams.info('keylime_revocations');
    const messages = [];
    for (let sequence = state.first_seq; sequence <= state.last_seq; sequence++) {
      const message = await streams.getMessage('keylime_revocations', { seq: sequence });
      if (message !== null) messages.push({ subject: message.subject, headers: message.header, event: message.json() });
    }
    return messages as readonly {
      subject: string;
      headers: (typeof messages)[0]['headers'];
      event: Readonly<Record<string, unknown>>;
    }[];
  } finally {
    await client.close();
  }
}

test('NATS keeps a notification as a CloudEvent that says what the signed message says', async (t) => {
  const server = await startNatsServer();
  t.after(() => server.stop());
  const verifier = await notifying(t, natsSettings(server));
  await offend(verifier, 'told');
  await eventually(verifier, 'nothing was delivered', () =>
    /Notification delivered.*channel=nats/.test(verifier.log()),
  );
  const [one, ...others] = await stored(server);
  assert.ok(one);
  assert.equal(others.length, 0);
  const { data, ...attributes } = one.event;
  const { msg, signature } = data as { msg: string; signature: string };
  const signed = JSON.parse(msg);
  assert.deepEqual(attributes, {
    specversion: '1.0',
    id: signed.notification_id,
    source: '/keylime/verifiers/default',
    type: 'dev.keylime.revocation',
    subject: 'told',
    time: signed.event_time_utc,
    datacontenttype: 'application/json',
  });
  assert.equal(signed.agent_id, 'told');
  assert.ok(signature.length > 0);
  assert.equal(one.subject, 'keylime.revocations.revocation');
  assert.equal(one.headers.get('Nats-Msg-Id'), signed.notification_id);
  assert.equal(one.headers.get('Content-Type'), 'application/cloudevents+json; charset=UTF-8');
});

test('an agent that takes revocations from NATS acts upon what the verifier signed, within a second, once', async (t) => {
  const server = await startNatsServer();
  t.after(() => server.stop());
  const verifier = await notifying(t, natsSettings(server));
  const home = path.join(verifier.folder, 'agent');
  await mkdir(home);
  await writeFile(path.join(home, 'record'), `#!/bin/sh\ncat "$1" >> ${home}/calls\n`, { mode: 0o700 });
  let log = '';
  const write = (line: string) => {
    log += line;
  };
  const sink = openLog({ name: 'keylime.agent', destination: { write } });
  const actions = { installedFolder: home, payloadFolder: home, allowPayloadActions: false, workFolder: home };
  const revocations = await openRevocations({
    certificatePaths: [path.join(verifier.folder, 'revocation_keys', 'certificates.pem')],
    actions: { ...actions, names: ['record'], timeoutSeconds: 5 },
    builtIn: [],
    log: sink,
  });
  t.after(() => revocations.close());
  const connection = async () => ({
    ...{ servers: [`nats://127.0.0.1:${server.port}`], name: 'agent', login: undefined, tls: { trustedCas: [] } },
  });
  const names = { stream: 'keylime_revocations', subject: 'keylime.revocations', agentId: 'agent' };
  const consuming = consumeRevocations({ ...names, connection }, revocations, sink);
  t.after(() => consuming.close());
  await eventually(verifier, 'it takes nothing', () => log.includes('Taking revocations from NATS'));
  await offend(verifier, 'told');
  const startedAt = performance.now();
  await eventually(verifier, 'nothing was done', () => log.includes('Revocation action record succeeded'));
  assert.ok(performance.now() - startedAt < 1000, `${performance.now() - startedAt} ms`);
  assert.equal(JSON.parse(await readFile(path.join(home, 'calls'), 'utf8')).agent_id, 'told');
});

test('[MUST] NATS that is down, then up, then restarted has every notification, each once', async (t) => {
  const server = await startNatsServer({ waits: true });
  t.after(() => server.stop());
  const verifier = await notifying(t, natsSettings(server), true);
  await offend(verifier, 'first');
  await eventually(verifier, 'it was not tried', () => /not delivered.*agent=first/.test(verifier.log()));
  await verifier.kill();
  await server.resume();
  await verifier.start();
  const delivered = (id: string) => () => new RegExp(`Notification delivered.*agent=${id}`).test(verifier.log());
  await eventually(verifier, 'nothing was delivered', delivered('first'));
  await server.halt();
  await offend(verifier, 'second');
  await eventually(verifier, 'it was not tried', () => /not delivered.*agent=second/.test(verifier.log()));
  await server.resume();
  await eventually(verifier, 'nothing was delivered', delivered('second'));
  assert.deepEqual(
    (await stored(server)).map(({ event }) => event.subject),
    ['first', 'second'],
  );
});

test('[MUST] over tls:// NATS is shown a certificate, and must have one of a trusted CA, for its address', async (t) => {
  const [ca, otherCa] = [await testCa(), await testCa('Other CA')];
  const servers = [
    { id: 'trusted', issuer: ca, names: ['127.0.0.1'] },
    { id: 'stranger', issuer: otherCa, names: ['127.0.0.1'] },
    { id: 'elsewhere', issuer: ca, names: ['localhost'] },
  ];
  for (const { id, issuer, names } of servers) {
    const own = await issuer.issue({ commonNames: ['nats'], purpose: 'serverAuth', names });
    const server = await startNatsServer({ tls: { ...own, clientCaPem: ca.certPem } });
    t.after(() => server.stop());
    const verifier = await startAttackedVerifier({ settings: natsSettings(server, 'tls'), ca });
    t.after(() => verifier.stop());
    await offend(verifier, id);
    const outcome = id === 'trusted' ? 'Notification delivered' : 'Notification not delivered';
    await eventually(verifier, 'it was not tried', () => new RegExp(`${outcome}.*agent=${id}`).test(verifier.log()));
    if (id === 'trusted') assert.equal((await stored(server, { ca, admin: verifier.admin })).length, 1);
    else assert.doesNotMatch(verifier.log(), /Notification delivered/);
  }
});

test('[MUST] a tls:// server that speaks no TLS is told nothing', async (t) => {
  const server = await startNatsServer();
  t.after(() => server.stop());
  const verifier = await notifying(t, natsSettings(server, 'tls'));
  await offend(verifier, 'secret');
  await eventually(verifier, 'it was not tried', () => /not delivered.*agent=secret/.test(verifier.log()));
  assert.doesNotMatch(verifier.log(), /Notification delivered/);
});

test('without any setting the certificate goes on the CRL of a CA that is there; without a CA nothing waits', async (t) => {
  const verifier = await startAttackedVerifier();
  t.after(() => verifier.stop());
  const metadata = JSON.stringify({ cert_serial: 2, subject: 'OU=53,O=Keylime,L=Lexington,ST=MA,CN=guilty,C=US' });
  await offend(verifier, 'early', { metadata });
  await eventually(verifier, 'nobody was told', () =>
    /is on no CRL: there is no CA here.*agent=early/.test(verifier.log()),
  );
  const folder = { dir: path.join(verifier.folder, 'ca'), password: 'default' };
  await initCa(folder);
  await createCertificate(folder, { name: 'guilty', purposes: ['clientAuth'], names: subjectNames(['guilty']) });
  await offend(verifier, 'guilty', { metadata });
  await eventually(verifier, 'nothing was revoked', () =>
    /Certificates were revoked.*agent=guilty serials=2/.test(verifier.log()),
  );
  assert.deepEqual(
    (await readCrl(folder.dir))?.revoked.map(({ serial }) => serial),
    ['2'],
  );
  await offend(verifier, 'without');
  const { results } = await verifier.ask({ path: '/v2.6/notifications' });
  assert.deepEqual([results.waiting, results.dead], [[], 0]);
});

test("a reported machine's certificate goes on the CRL of the CA; one of another CA is given up", async (t) => {
  const verifier = await notifying(t, { enabled_revocation_notifications: "['crl']" });
  const folder = { dir: path.join(verifier.folder, 'ca'), password: 'default' };
  await initCa(folder);
  await createCertificate(folder, { name: 'guilty', purposes: ['clientAuth'], names: subjectNames(['guilty']) });
  const metadata = (cert_serial: number, name: string) =>
    JSON.stringify({ cert_serial, subject: `OU=53,O=Keylime,L=Lexington,ST=MA,CN=${name},C=US` });
  await offend(verifier, 'foreign', { metadata: metadata(2, 'foreign') });
  await eventually(verifier, 'it was not given up', () => /Notification given up.*agent=foreign/.test(verifier.log()));
  assert.deepEqual((await readCrl(folder.dir))?.revoked, []);
  await offend(verifier, 'guilty', { metadata: metadata(2, 'guilty') });
  await eventually(verifier, 'nothing was revoked', () =>
    /Certificates were revoked.*agent=guilty/.test(verifier.log()),
  );
  assert.deepEqual(
    (await readCrl(folder.dir))?.revoked.map(({ serial }) => serial),
    ['2'],
  );
});
