import assert from 'node:assert/strict';
import { createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, X509Certificate } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isRevocationSigned } from '@keylime/payload/revocation-signature';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { type AttackedVerifier, eventually, offend, startAttackedVerifier } from './verifier-harness.ts';

/*
 * The channel `agent`: every enrolled machine hears of every other one that is reported, at once if it is there, later if
 * it was away, whatever the others do.
 */
async function telling(t: TestContext, process = false): Promise<AttackedVerifier> {
  const settings = { enabled_revocation_notifications: "['agent']" };
  const verifier = await startAttackedVerifier({ settings, process });
  t.after(() => verifier.stop());
  return verifier;
}

async function peerOf(verifier: AttackedVerifier, id: string): Promise<LyingAgent> {
  const peer = await verifier.agent(id);
  await verifier.enrol(peer);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return peer;
}

type Summary = {
  readonly since: string;
  readonly channels: readonly { readonly failed: number; readonly delivered?: number }[];
};

const reported = ({ told }: LyingAgent) => told.map(({ msg }) => String(JSON.parse(msg).agent_id));
const isTold = (id: string) => (agent: LyingAgent) => reported(agent).includes(id);

async function signingKeys(verifier: AttackedVerifier): Promise<readonly KeyObject[]> {
  const pem = await readFile(path.join(verifier.folder, 'revocation_keys', 'certificates.pem'), 'utf8');
  const certificates = pem.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----\n?/g) ?? [];
  return certificates.map((one) => new X509Certificate(one).publicKey);
}

/** Treats notifications as `answer` does, and tells the truth about everything else. */
const onNotification = (answer: NonNullable<Parameters<LyingAgent['lie']>[0]>['respond'] & {}) => ({
  respond: (...[request, response, truth]: Parameters<typeof answer>) => {
    if (request.url?.endsWith('/notifications/revocation')) return answer(request, response, truth);
    response.writeHead(200, { 'content-type': 'application/json' }).end(truth());
  },
});

test('every enrolled machine hears of one that is reported, itself included, within a second, signed by the verifier', async (t) => {
  const verifier = await telling(t);
  const peers = [await peerOf(verifier, 'peer-1'), await peerOf(verifier, 'peer-2')];
  const offender = await offend(verifier, 'offender');
  const startedAt = performance.now();
  const all = [...peers, offender];
  await eventually(verifier, 'not all were told', () => all.every(isTold('offender')));
  assert.ok(performance.now() - startedAt < 1000, `${performance.now() - startedAt} ms`);
  const [first] = offender.told;
  assert.ok(first);
  for (const { told } of all) assert.deepEqual(told, [first]);
  const { type, ip, port, event_id } = JSON.parse(first.msg);
  assert.deepEqual([type, ip, port], ['revocation', '127.0.0.1', offender.port]);
  assert.equal(event_id, 'ima.validation.ima-ng.not_in_allowlist');
  const [current, next] = await signingKeys(verifier);
  assert.ok(current && next);
  assert.ok(isRevocationSigned(current, first.msg, first.signature));
  assert.ok(!isRevocationSigned(next, first.msg, first.signature));
  const kept = await stat(path.join(verifier.folder, 'revocation_keys', 'current.pem'));
  assert.equal(kept.mode & 0o777, 0o600);
});

test('a machine that was enrolled with a key is reported under that key, and under no other', async (t) => {
  const verifier = await telling(t);
  const peer = await peerOf(verifier, 'peer');
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const revocation_key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  await offend(verifier, 'keyed', { revocation_key });
  await eventually(verifier, 'the peer was not told', () => isTold('keyed')(peer));
  const [one] = peer.told;
  assert.ok(one);
  assert.ok(isRevocationSigned(createPublicKey(createPrivateKey(revocation_key)), one.msg, one.signature));
  for (const key of await signingKeys(verifier)) assert.ok(!isRevocationSigned(key, one.msg, one.signature));
  assert.ok(!JSON.stringify(one).includes('PRIVATE KEY') && !verifier.log().includes('PRIVATE KEY'));
});

test('[MUST] a peer that never answers, and one that cuts the connection, hold up neither the others nor a verdict', async (t) => {
  const verifier = await telling(t);
  const silent = await peerOf(verifier, 'a-silent');
  const cutting = await peerOf(verifier, 'a-cutting');
  const well = await peerOf(verifier, 'z-well');
  silent.lie(onNotification(() => {}));
  cutting.lie(onNotification((request) => request.socket.destroy()));
  await offend(verifier, 'offender-1');
  await offend(verifier, 'offender-2');
  const startedAt = performance.now();
  await eventually(verifier, 'the peer was not told', () => reported(well).length === 2);
  assert.ok(performance.now() - startedAt < 4000, `${performance.now() - startedAt} ms`);
  assert.deepEqual(reported(well), ['offender-1', 'offender-2']);
  cutting.lie();
  silent.lie();
  await eventually(verifier, 'those who were away were not told', () =>
    [silent, cutting].every((one) => one.told.length === 2),
  );
  for (const one of [silent, cutting]) assert.deepEqual(reported(one).toSorted(), ['offender-1', 'offender-2']);
  assert.deepEqual(reported(well), ['offender-1', 'offender-2'], 'nobody is told twice');
});

test('[MUST] what a peer missed about a machine comes in order, also over a restart', async (t) => {
  const verifier = await telling(t, true);
  const peer = await peerOf(verifier, 'peer');
  peer.lie(onNotification((_, response) => response.writeHead(503).end('{}')));
  const offender = await offend(verifier, 'offender');
  await eventually(verifier, 'it was not tried', () => /Notification not delivered.*to=peer/.test(verifier.log()));
  await verifier.ask({ method: 'PUT', path: '/v2.6/agents/offender/reactivate' });
  await verifier.until('offender', ({ operational_state }) => operational_state > 3);
  await eventually(verifier, 'the second alarm was not raised', () => offender.told.length === 2);
  await verifier.kill();
  peer.lie();
  await verifier.start();
  await eventually(verifier, 'the peer was not told', () => peer.told.length === 2);
  // The last one may have been under way to the offender when the verifier was killed: then it came twice.
  assert.deepEqual(peer.told, offender.told.slice(0, 2));
});

test('[MUST] a verifier that is killed while it tells loses nobody', async (t) => {
  const verifier = await telling(t, true);
  const peers: LyingAgent[] = [];
  for (let n = 0; n < 5; n++) peers.push(await peerOf(verifier, `peer-${n}`));
  let reached: () => void = () => {};
  const underWay = new Promise<void>((resolve) => {
    reached = resolve;
  });
  peers[2]?.lie(onNotification(() => reached()));
  await offend(verifier, 'offender');
  await underWay;
  await verifier.kill();
  peers[2]?.lie();
  await verifier.start();
  await eventually(verifier, 'not all were told', () => peers.every(isTold('offender')));
  const [first] = peers[0]?.told ?? [];
  for (const { told } of peers)
    for (const one of told) assert.deepEqual(one, first, 'a repetition is the same message');
});

test('a machine without an ear for notifications is given up at once, and only that one', async (t) => {
  const verifier = await telling(t);
  const deaf = await peerOf(verifier, 'deaf');
  const well = await peerOf(verifier, 'well');
  deaf.lie(onNotification((_, response) => response.writeHead(404).end('{"code":404,"status":"Not Found"}')));
  await offend(verifier, 'offender');
  const givenUp = /ERROR - Notification given up.*to=deaf.*agent deaf answered 404 to a revocation: Not Found/;
  await eventually(verifier, 'nothing was given up', () => givenUp.test(verifier.log()));
  await eventually(verifier, 'the peer was not told', () => isTold('offender')(well));
  await offend(verifier, 'offender-2');
  await eventually(verifier, 'the peer was not told', () => isTold('offender-2')(well));
});

test('what was given up is shown with its reason, sent again when an operator says so, or forgotten', async (t) => {
  const verifier = await telling(t);
  const deaf = await peerOf(verifier, 'deaf');
  deaf.lie(onNotification((_, response) => response.writeHead(404).end('{"code":404,"status":"Not Found"}')));
  const offenders = [await offend(verifier, 'offender-1'), await offend(verifier, 'offender-2')];
  const dead = async () => {
    const { results } = await verifier.ask({ path: '/v2.6/notifications/dead' });
    return results.dead as unknown as readonly Readonly<Record<string, unknown>>[];
  };
  for (let n = 0; n < 500 && (await dead()).length < 2; n++) await sleep(10);
  const [first, second] = await dead();
  assert.ok(first && second);
  const { id, notification_id, created, ...shown } = first;
  assert.deepEqual(shown, {
    agent_id: 'offender-1',
    channel: 'agent',
    target: 'deaf',
    attempts: 1,
    error: 'agent deaf answered 404 to a revocation: Not Found',
  });
  await eventually(verifier, 'not all were told', () => offenders.every(isTold('offender-2')));
  const summary = async () => (await verifier.ask({ path: '/v2.6/notifications' })).results as unknown as Summary;
  const delivered = offenders.flatMap(({ told }) => told).length;
  for (let n = 0; n < 500 && (await summary()).channels[0]?.delivered !== delivered; n++) await sleep(10);
  const { since, channels, ...totals } = await summary();
  assert.deepEqual(totals, { waiting: [], dead: 2 });
  const [{ failed, ...counts } = { failed: 0 }] = channels;
  assert.deepEqual(counts, { channel: 'agent', enabled: true, waiting: 0, delivered, dead: 2 });
  assert.ok(failed >= 2, 'one attempt for each that was given up, at least');
  assert.ok(Date.parse(since) <= Date.parse(String(created)));
  assert.deepEqual((await verifier.ask({ path: `/v2.6/notifications/dead?after=${second.id}` })).results, { dead: [] });

  const replay = (json: unknown) => verifier.ask({ method: 'POST', path: '/v2.6/notifications/dead/replay', json });
  for (const wrong of [undefined, {}, { ids: [] }, { ids: ['1'] }, { ids: 'everything' }, { ids: [-1] }, [1]]) {
    assert.equal((await replay(wrong)).code, 400, JSON.stringify(wrong));
  }
  deaf.lie();
  assert.deepEqual((await replay({ ids: [id] })).results, { replayed: 1 });
  await eventually(verifier, 'it was not sent again', () => deaf.told.length === 1);
  assert.equal(JSON.parse(deaf.told[0]?.msg ?? '').notification_id, notification_id);
  const discard = () => verifier.ask({ method: 'DELETE', path: `/v2.6/notifications/dead/${second.id}` });
  assert.equal((await discard()).code, 200);
  assert.equal((await discard()).code, 404);
  assert.deepEqual((await replay({ ids: 'all' })).results, { replayed: 0 });
  const { certificates } = (await verifier.ask({ path: '/v2.6/notifications/certificates' })).results;
  const published = await readFile(path.join(verifier.folder, 'revocation_keys', 'certificates.pem'), 'utf8');
  assert.equal(certificates, published);
});
