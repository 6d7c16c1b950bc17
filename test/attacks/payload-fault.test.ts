import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { keyVerifyHmac } from '@keylime/payload/key-split';
import { AGENT_ID, type AttackedAgent } from './agent-harness.ts';
import { openPayloadScene, type PayloadScene } from './payload-harness.ts';
import { smallDisk } from './small-disk.ts';
import { steppedClock } from './stepped-clock.ts';
import { eventually, GET_QUOTE, INVALID_QUOTE } from './verifier-harness.ts';

/*
 * What goes wrong while a payload is on its way, with verifier and agent as processes that are killed: it arrives all the
 * same, its script runs once, and a machine that is not attested in between gets nothing.
 */
const VKEY = /keys\/vkey$/;
const QUOTE = /quotes\/integrity/;
const ROUNDS = 3;
const HOUR_MS = 3_600_000;
const isRoot = process.getuid?.() === 0;

const files = ({ home }: AttackedAgent) => ({ 'autorun.sh': `echo run >> ${home}/runs`, secret: 'for this machine' });
const runs = ({ home }: AttackedAgent) => {
  const file = path.join(home, 'runs');
  return existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n').length : 0;
};
const installed = ({ agent, verifier }: PayloadScene) =>
  eventually(verifier, 'no payload', () => /Payload script autorun\.sh succeeded/.test(agent.log()));
const releases = ({ gate }: PayloadScene) => gate.passed.filter((url) => VKEY.test(url)).length;

/** Lets the machine pass a few times more. */
async function moreRounds({ verifier }: PayloadScene): Promise<void> {
  const { attestation_count: before } = await verifier.status(AGENT_ID);
  await verifier.until(AGENT_ID, ({ attestation_count }) => attestation_count >= before + ROUNDS);
}

async function assertArrivedOnce(scene: PayloadScene): Promise<void> {
  await moreRounds(scene);
  assert.equal((await scene.verifier.status(AGENT_ID)).operational_state, GET_QUOTE);
  assert.equal(readFileSync(path.join(scene.agent.unzipped, 'secret'), 'utf8'), 'for this machine');
  assert.equal(runs(scene.agent), 1);
}

test('a verifier killed before the share was out gives it after its restart', async (t) => {
  const scene = await openPayloadScene(t);
  const share = scene.gate.hold('request', VKEY);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  const held = await share;
  await scene.verifier.kill();
  held.cut();
  await scene.verifier.start();
  await installed(scene);
  await assertArrivedOnce(scene);
  assert.equal(releases(scene), 1);
});

test('a verifier killed before it knew that the share arrived gives it again, and nothing runs again', async (t) => {
  const scene = await openPayloadScene(t);
  const answer = scene.gate.hold('answer', VKEY);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  const held = await answer;
  await scene.verifier.kill();
  held.cut();
  await installed(scene);
  await scene.verifier.start();
  await scene.verifier.until(AGENT_ID, () => releases(scene) === 2);
  await assertArrivedOnce(scene);
});

test('[MUST] a machine that is reset and tampered with while its share is on the way does not get it', async (t) => {
  const scene = await openPayloadScene(t);
  const delivery = await scene.agent.delivery(files(scene.agent));
  const share = scene.gate.hold('request', VKEY);
  await scene.add(delivery);
  const held = await share;
  await scene.agent.kill();
  await scene.boot(['/usr/bin/implant']);
  // U was in the memory of the agent before; let its owner have it back, so that V is all that is missing.
  await scene.agent.post('/v2.6/keys/ukey', delivery.ukey);
  held.cut();
  const { last_event_id, last_failures } = await scene.verifier.until(
    AGENT_ID,
    ({ operational_state }) => operational_state === INVALID_QUOTE,
  );
  assert.equal(last_event_id, 'ima.validation.ima-ng.not_in_allowlist', JSON.stringify(last_failures));
  assert.deepEqual([releases(scene), runs(scene.agent)], [0, 0]);
});

test('an agent killed after its payload keeps it, runs nothing again, and takes the next one', async (t) => {
  const scene = await openPayloadScene(t);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  await installed(scene);
  await scene.agent.kill();
  await scene.startAgent();
  await assertArrivedOnce(scene);
  assert.equal(releases(scene), 1, 'the same boot and key: it has the share');
  assert.equal((await scene.verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${AGENT_ID}` })).code, 200);
  const next = await scene.agent.delivery({ ...files(scene.agent), secret: 'the next one' });
  await scene.add(next);
  await installed(scene);
  assert.equal(readFileSync(path.join(scene.agent.unzipped, 'secret'), 'utf8'), 'the next one');
  assert.equal(runs(scene.agent), 2);
  const { results } = await scene.agent.get('/v2.6/keys/verify?challenge=AbC');
  assert.deepEqual(results, { hmac: keyVerifyHmac(next.k, 'AbC') });
});

test('an agent killed with U only is attested, takes V, and has the payload when the tenant sends U once more', async (t) => {
  const scene = await openPayloadScene(t);
  const delivery = await scene.agent.delivery(files(scene.agent));
  await scene.agent.post('/v2.6/keys/ukey', delivery.ukey);
  await scene.agent.kill();
  await scene.startAgent();
  await scene.enrol(delivery);
  await scene.verifier.until(AGENT_ID, () => releases(scene) === 1);
  await moreRounds(scene);
  assert.equal(runs(scene.agent), 0);
  await scene.agent.post('/v2.6/keys/ukey', delivery.ukey);
  await installed(scene);
  await assertArrivedOnce(scene);
});

test('an agent that made a new payload key is attested with it, not revoked, and gets the share for it', async (t) => {
  const scene = await openPayloadScene(t);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  await installed(scene);
  const quote = scene.gate.hold('request', QUOTE);
  const held = await quote;
  // The verifier does not see that it was away.
  await scene.agent.kill();
  rmSync(path.join(scene.agent.home, 'payload-private.pem'));
  await scene.startAgent();
  held.pass();
  await scene.verifier.until(AGENT_ID, () => releases(scene) === 2);
  await assertArrivedOnce(scene);
});

test('[MUST] a verifier that cannot store its verdict gives no share, and gives it when there is room again', {
  skip: !isRoot && 'needs root',
}, async (t) => {
  const disk = smallDisk(t);
  const scene = await openPayloadScene(t, {
    settings: { database_url: `sqlite:///${disk.folder}/verifier.sqlite` },
  });
  const quote = scene.gate.hold('request', QUOTE);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  const held = await quote;
  disk.fill();
  held.pass();
  const isFull = () => /a fault of this service.*disk is full/.test(scene.verifier.log());
  await eventually(scene.verifier, 'nothing was said', isFull);
  await sleep(1000);
  assert.deepEqual([releases(scene), (await scene.verifier.status(AGENT_ID)).attestation_count], [0, 0]);
  disk.free();
  await installed(scene);
  await assertArrivedOnce(scene);
});

test('clocks that are set, of the verifier or of the machine, neither hold up a payload nor bring it twice', async (t) => {
  const clocks = { verifier: steppedClock(t), agent: steppedClock(t) };
  const scene = await openPayloadScene(t, { env: clocks.verifier.env, agentEnv: clocks.agent.env });
  const share = scene.gate.hold('request', VKEY);
  await scene.add(await scene.agent.delivery(files(scene.agent)));
  const held = await share;
  clocks.verifier.setClock(-HOUR_MS);
  clocks.agent.setClock(30 * 24 * HOUR_MS);
  held.cut();
  await installed(scene);
  await assertArrivedOnce(scene);
  clocks.verifier.setClock(30 * 24 * HOUR_MS);
  clocks.agent.setClock(-HOUR_MS);
  await assertArrivedOnce(scene);
  assert.equal(releases(scene), 1);
});
