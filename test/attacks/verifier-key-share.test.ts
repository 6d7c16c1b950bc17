import assert from 'node:assert/strict';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile, rename, writeFile } from 'node:fs/promises';
import { type AddressInfo, connect, createServer } from 'node:net';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import {
  type AttackedVerifier,
  FAILED,
  GET_QUOTE,
  INVALID_QUOTE,
  STOPPED,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';

/*
 * The verifier's half V of payload keys: who is not to have it must not get it, be it by lies of a machine, from a stolen
 * database, or out of anything that the verifier says.
 */
const PROVIDE_V = 5;
const ROUNDS = 4;

async function started(t: TestContext, options: VerifierOptions = {}): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier(options);
  t.after(() => verifier.stop());
  return verifier;
}

async function enrolled(verifier: AttackedVerifier, agent: LyingAgent): Promise<Buffer> {
  const share = randomBytes(32);
  await verifier.enrol(agent, { v: share.toString('base64') });
  return share;
}

const delivered = async (verifier: AttackedVerifier, { id, shares }: LyingAgent, count = 1) =>
  verifier.until(id, ({ operational_state }) => shares.length >= count && operational_state === GET_QUOTE);

/** Lets the agent be attested a few times more. */
async function moreRounds(verifier: AttackedVerifier, { id }: LyingAgent): Promise<void> {
  const { attestation_count: before } = await verifier.status(id);
  await verifier.until(id, ({ attestation_count }) => attestation_count >= before + ROUNDS);
}

/** All ways in which `share` may be written. */
const spellings = (share: Buffer) => [share, Buffer.from(share.toString('base64')), Buffer.from(share.toString('hex'))];

test('a machine that passes gets its share, once, and nobody else does', async (t) => {
  const verifier = await started(t);
  const [agent, neighbour] = [await verifier.agent('good'), await verifier.agent('neighbour')];
  await verifier.enrol(neighbour);
  const share = await enrolled(verifier, agent);
  await delivered(verifier, agent);
  await moreRounds(verifier, agent);
  await moreRounds(verifier, neighbour);
  assert.deepEqual([agent.shares, neighbour.shares], [[share], []]);
});

test('[MUST] a machine that fails its first attestation never gets its share, also when it passes no more', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('tampered');
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await enrolled(verifier, agent);
  await verifier.until('tampered', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/tampered/reactivate', json: {} })).code, 200);
  await verifier.until('tampered', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.deepEqual(agent.shares, []);
});

test('[MUST] a key that PCR 16 does not bind gets no share, not even encrypted', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('other-key');
  const thief = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ type: 'spki', format: 'pem' });
  agent.lie({ results: (truth) => ({ ...truth, pubkey: thief }) });
  await enrolled(verifier, agent);
  await verifier.until('other-key', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.deepEqual(agent.shares, []);
});

test('[MUST] a round that is neither pass nor failure gives no share', async (t) => {
  const verifier = await started(t, { settings: { max_retries: '1000', retry_interval: '0.01' } });
  const agent = await verifier.agent('unsafe');
  const quote: NonNullable<Parameters<LyingAgent['lie']>[0]>['quote'] = (truth) =>
    agent.ak.quote({ ...truth, clockInfo: { ...truth.clockInfo, safe: false } });
  agent.lie({ quote });
  const share = await enrolled(verifier, agent);
  await verifier.until('unsafe', ({ inconclusive_rounds }) => inconclusive_rounds >= ROUNDS);
  assert.deepEqual(agent.shares, []);
  agent.lie();
  await delivered(verifier, agent);
  assert.deepEqual(agent.shares, [share]);
});

test('[MUST] after a reset the share waits for a pass of the new boot', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('reset');
  const share = await enrolled(verifier, agent);
  await delivered(verifier, agent);
  agent.machine.reboot();
  await delivered(verifier, agent, 2);
  assert.deepEqual(agent.shares, [share, share]);
  agent.machine.reboot();
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await verifier.until('reset', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.equal(agent.shares.length, 2);
});

test('a machine that was stopped or deleted while its share was on the way is offered it no more', async (t) => {
  const verifier = await started(t, { settings: { max_retries: '1000', retry_interval: '0.01' } });
  let offers = 0;
  for (const id of ['stopped', 'deleted']) {
    const agent = await verifier.agent(id);
    agent.lie({
      respond: (request, response, truth) => {
        if (!request.url?.endsWith('/keys/vkey')) return response.end(truth());
        offers += 1;
        return response.writeHead(503).end();
      },
    });
    await enrolled(verifier, agent);
    await verifier.until(id, ({ operational_state }) => operational_state === PROVIDE_V && offers > 1);
    const [method, target] =
      id === 'stopped' ? ['PUT', '/v2.6/agents/stopped/stop'] : ['DELETE', '/v2.6/agents/deleted'];
    const json = method === 'PUT' ? { json: {} } : {};
    assert.equal((await verifier.ask({ method, path: target, ...json })).code, 200);
    if (id === 'stopped') assert.equal((await verifier.status(id)).operational_state, STOPPED);
    // One offer may have been on its way.
    await sleep(100);
    const after = offers;
    await sleep(300);
    assert.equal(offers, after);
  }
});

test('[MUST] once it is answered that a machine is stopped or deleted, no share leaves for it, also if one was due already', async (t) => {
  const verifier = await started(t);
  for (const [id, method] of [
    ['stopped-late', 'PUT'],
    ['deleted-late', 'DELETE'],
  ] as const) {
    const agent = await verifier.agent(id);
    // The share needs a connection of its own, and that one is slow.
    agent.lie({
      respond: (_, response, truth) => response.writeHead(200, { connection: 'close' }).end(truth()),
    });
    const way = await slowAfterFirst(t, agent.port);
    await verifier.enrol(agent, { v: randomBytes(32).toString('base64'), cloudagent_port: way.port });
    await way.isWaiting;
    assert.equal((await verifier.status(id)).operational_state, PROVIDE_V);
    const [target, more] = method === 'PUT' ? [`/v2.6/agents/${id}/stop`, { json: {} }] : [`/v2.6/agents/${id}`, {}];
    assert.equal((await verifier.ask({ method, path: target, ...more })).code, 200);
    way.open();
    await way.isOver;
    assert.deepEqual(agent.shares, []);
  }
});

/** A way to `port` that lets the first connection through at once, and the second one only when it is told to. */
async function slowAfterFirst(t: TestContext, port: number) {
  const waiting = Promise.withResolvers<void>();
  const opened = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  let count = 0;
  const server = createServer(async (socket) => {
    socket.on('error', () => {});
    if (++count > 1) {
      socket.once('close', () => over.resolve());
      waiting.resolve();
      await opened.promise;
    }
    const onward = connect(port, '127.0.0.1').on('error', () => {});
    socket.pipe(onward).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { port: own } = server.address() as AddressInfo;
  return { port: own, isWaiting: waiting.promise, open: opened.resolve, isOver: over.promise };
}

test('an agent that will not take its share fails, and says why', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('unwilling');
  agent.lie({
    respond: (request, response, truth) =>
      request.url?.endsWith('/keys/vkey')
        ? response.writeHead(400).end('{"code": 400, "status": "Failed to decrypt", "results": {}}')
        : response.end(truth()),
  });
  await enrolled(verifier, agent);
  const status = await verifier.until('unwilling', ({ operational_state }) => operational_state === FAILED);
  assert.equal(status.last_event_id, 'internal.verifier.no_v');
  assert.match(String(status.last_failures[0]?.context.message), /answered 400 to its key share: Failed to decrypt/);
});

test('an agent that is not there for its share fails after the retries', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('absent');
  agent.lie({
    respond: (request, response, truth) =>
      request.url?.endsWith('/keys/vkey') ? response.destroy() : response.end(truth()),
  });
  await enrolled(verifier, agent);
  const status = await verifier.until('absent', ({ operational_state }) => operational_state === FAILED);
  assert.equal(status.last_event_id, 'internal.verifier.not_reachable_v');
});

test('an impostor at the address of the machine gets nothing', async (t) => {
  const verifier = await started(t);
  const other = await verifier.agent('somebody-else');
  const agent = await verifier.agent('robbed', { shows: other.identity });
  await enrolled(verifier, agent);
  await verifier.until('robbed', ({ operational_state }) => operational_state === FAILED);
  assert.deepEqual([agent.asked, agent.shares], [[], []]);
});

test('a share is in no answer, no log line and no file but sealed', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('secret');
  const share = await enrolled(verifier, agent);
  await delivered(verifier, agent);
  const refused = await verifier.ask({
    method: 'POST',
    path: '/v2.6/agents/bad',
    json: { v: share.toString('base64') },
  });
  assert.equal(refused.code, 400);
  const texts = [
    refused.text,
    (await verifier.ask({ path: '/v2.6/agents/secret' })).text,
    (await verifier.ask({ path: '/v2.6/agents/?bulk=true' })).text,
    verifier.log(),
  ];
  assert.match(texts[1] ?? '', /"v":null/);
  await verifier.kill();
  const files = (await readdir(verifier.folder, { withFileTypes: true, recursive: true }))
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
  assert.ok(files.some((file) => file.endsWith('verifier.sqlite')));
  const contents = [
    ...texts.map((text) => Buffer.from(text)),
    ...(await Promise.all(files.map((file) => readFile(file)))),
  ];
  for (const content of contents) for (const spelling of spellings(share)) assert.ok(!content.includes(spelling));
  await verifier.start();
});

test('the key of an agent’s revocations is in no file but sealed, one that an earlier version kept in the clear too', async (t) => {
  const verifier = await started(t);
  const agent = await verifier.agent('signer');
  const pem = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const [, middle = ''] = String(pem).split('\n').slice(4);
  await verifier.enrol(agent, { revocation_key: pem });
  await verifier.until('signer', ({ attestation_count }) => attestation_count > 0);
  assert.ok(!(await verifier.ask({ path: '/v2.6/agents/signer' })).text.includes(middle));
  await verifier.kill();
  const database = new DatabaseSync(`${verifier.folder}/verifier.sqlite`);
  const row = () => database.prepare("SELECT * FROM agents WHERE agent_id = 'signer'").get() ?? {};
  assert.ok(!JSON.stringify(row()).includes(middle));
  const enrolment = JSON.stringify({ ...JSON.parse(String(row().enrolment)), revocationKey: pem });
  database
    .prepare("UPDATE agents SET enrolment = ?, sealed_revocation_key = NULL WHERE agent_id = 'signer'")
    .run(enrolment);
  await verifier.start();
  assert.ok(!JSON.stringify(row()).includes(middle));
  assert.match(String(row().sealed_revocation_key), /^[0-9a-f]{16}\./);
  database.close();
  await moreRounds(verifier, agent);
});

test('[MUST] a thief who swaps sealed shares in the database gives neither machine the other one’s', async (t) => {
  const verifier = await started(t);
  const [one, two] = [await verifier.agent('one'), await verifier.agent('two')];
  for (const agent of [one, two]) {
    await enrolled(verifier, agent);
    await delivered(verifier, agent);
  }
  await verifier.kill();
  const database = new DatabaseSync(`${verifier.folder}/verifier.sqlite`);
  const sealed = (id: string) =>
    database.prepare('SELECT sealed_key_share AS text FROM agents WHERE agent_id = ?').get(id)?.text as string;
  const [first, second] = [sealed('one'), sealed('two')];
  const put = database.prepare('UPDATE agents SET sealed_key_share = ?, key_share_recipient = NULL WHERE agent_id = ?');
  put.run(second, 'one');
  put.run(first, 'two');
  database.close();
  await verifier.start();
  for (const agent of [one, two]) {
    await moreRounds(verifier, agent);
    assert.equal(agent.shares.length, 1);
    assert.match(verifier.log(), new RegExp(`key share of ${agent.id} was changed where it is kept`));
  }
});

test('a key can be rotated: the old one is no longer needed after one start', async (t) => {
  const key = () => randomBytes(32).toString('base64');
  const verifier = await started(t, {
    settings: { secret_keys: "['new.key', 'old.key']", max_retries: '1000' },
  }).catch((error: unknown) => error);
  assert.match(String(verifier), /secret_keys: .*new\.key cannot be used/, 'a key that is named must be there');
  const running = await started(t);
  const agent = await running.agent('rotated');
  const share = await enrolled(running, agent);
  await delivered(running, agent);
  await running.kill();
  const configuration = path.join(running.folder, 'verifier.conf');
  const named = async (names: string) => {
    const text = (await readFile(configuration, 'utf8')).replace(/^secret_keys = .*\n/m, '');
    await writeFile(configuration, text.replace('[verifier]\n', `[verifier]\nsecret_keys = ${names}\n`));
  };
  await writeFile(path.join(running.folder, 'new.key'), key());
  await named("['new.key', 'default']");
  await running.start();
  assert.match(running.log(), /sealed under the new key: 1/);
  assert.doesNotMatch(running.log(), /the key of some secrets is missing/);
  await running.kill();
  await rename(path.join(running.folder, 'secret.key'), path.join(running.folder, 'gone'));
  await named("['new.key']");
  await running.start();
  agent.machine.reboot();
  await delivered(running, agent, 2);
  assert.deepEqual(agent.shares, [share, share]);
  await running.kill();
  await writeFile(path.join(running.folder, 'new.key'), key());
  await assert.rejects(running.start(), { code: 'key_not_configured', message: /move revocation_keys away/ });
  await rename(path.join(running.folder, 'revocation_keys'), path.join(running.folder, 'lost'));
  await running.start();
  assert.match(running.log(), /the key of some secrets is missing; .* agents=1 first=rotated/);
});

/** Enrols the agent, and kills the verifier when it has offered the share and has no answer yet. */
async function killedWhileOffering(verifier: AttackedVerifier, agent: LyingAgent): Promise<Buffer> {
  const { promise: isOffered, resolve: offered } = Promise.withResolvers<void>();
  agent.lie({
    respond: (request, response, truth) => (request.url?.endsWith('/keys/vkey') ? offered() : response.end(truth())),
  });
  const share = await enrolled(verifier, agent);
  await isOffered;
  await verifier.kill();
  return share;
}

test('[MUST] a verifier killed between verdict and delivery attests the machine again before it gives the share', async (t) => {
  const verifier = await started(t, { process: true });
  const agent = await verifier.agent('killed');
  const share = await killedWhileOffering(verifier, agent);
  const [asked, offers] = [agent.asked.length, agent.shares.length];
  // Meanwhile somebody tampers with the machine.
  agent.lie();
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await verifier.start();
  const status = await verifier.until('killed', ({ operational_state }) => operational_state === INVALID_QUOTE);
  assert.equal(status.last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
  assert.ok(agent.asked.length > asked, 'it was attested again');
  assert.equal(agent.shares.length, offers, 'and got nothing');
  assert.ok(agent.shares.every((given) => given.equals(share)));
});

test('a verifier killed between verdict and delivery delivers after its restart', async (t) => {
  const verifier = await started(t, { process: true });
  const agent = await verifier.agent('resumed');
  const share = await killedWhileOffering(verifier, agent);
  const before = agent.shares.length;
  agent.lie();
  await verifier.start();
  await delivered(verifier, agent, before + 1);
  await moreRounds(verifier, agent);
  assert.equal(agent.shares.length, before + 1);
  assert.deepEqual(agent.shares.at(-1), share);
});
