import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { smallDisk } from './small-disk.ts';
import { steppedClock } from './stepped-clock.ts';
import {
  eventually,
  freePort,
  GET_QUOTE,
  offend,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';
import { messageOf, webhookReceiver } from './webhook-receiver.ts';

/*
 * What happens to the machine of the verifier loses no alarm: a disk that is full, a clock that is set. The verifier is a
 * process of its own, its receiver a real one.
 */
const isRoot = process.getuid?.() === 0;
const HOUR_MS = 3_600_000;

async function notifying(t: TestContext, options: VerifierOptions = {}) {
  const port = await freePort();
  const settings = { enabled_revocation_notifications: "['webhook']", webhook_url: `https://127.0.0.1:${port}/` };
  const verifier = await startAttackedVerifier({
    ...options,
    process: true,
    settings: { ...settings, ...options.settings },
  });
  t.after(() => verifier.stop());
  const tls = await verifier.ca.issue({ commonNames: ['receiver'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  return { verifier, receive: () => webhookReceiver(t, port, tls) };
}

test('[MUST] a disk that is full loses no verdict and no alarm: the verifier says so, and goes on when there is room', {
  skip: !isRoot && 'needs root',
}, async (t) => {
  const disk = smallDisk(t);
  const settings = { database_url: `sqlite:///${disk.folder}/verifier.sqlite` };
  const { verifier, receive } = await notifying(t, { settings });
  const agent = await verifier.agent('offender');
  await verifier.enrol(agent);
  await verifier.until('offender', ({ attestation_count }) => attestation_count > 0);
  disk.fill();
  await eventually(verifier, 'nothing was said', () => /a fault of this service.*disk is full/.test(verifier.log()));
  const hook = await receive();
  agent.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await sleep(500);
  assert.equal((await verifier.status('offender')).operational_state, GET_QUOTE, 'no verdict that is not stored');
  assert.deepEqual(hook.received, [], 'no alarm without its verdict');
  disk.free();
  const { last_event_id } = await verifier.until('offender', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.equal(last_event_id, 'ima.validation.ima-ng.not_in_allowlist');
  await hook.arrived(1);
  assert.deepEqual(
    hook.received.map((one) => messageOf(one).agent_id),
    ['offender'],
  );
});

test('[MUST] a clock that is set back, or far forward, neither delays nor gives up an alarm, and fails no machine', async (t) => {
  const { env, setClock } = steppedClock(t);
  const { verifier, receive } = await notifying(t, { env });
  const bystander = await verifier.agent('bystander');
  await verifier.enrol(bystander);
  await offend(verifier, 'before');
  const tried = (id: string) => () => new RegExp(`not delivered.*agent=${id}`).test(verifier.log());
  await eventually(verifier, 'it was not tried', tried('before'));
  setClock(-HOUR_MS);
  await offend(verifier, 'back');
  await eventually(verifier, 'it was not tried', tried('back'));
  const hook = await receive();
  await hook.arrived(2);
  hook.stop();
  await offend(verifier, 'again');
  await eventually(verifier, 'it was not tried', tried('again'));
  setClock(30 * 24 * HOUR_MS);
  await sleep(3000);
  assert.doesNotMatch(verifier.log(), /Notification given up/);
  const later = await receive();
  await later.arrived(1);
  assert.deepEqual(hook.received.map((one) => messageOf(one).agent_id).toSorted(), ['back', 'before']);
  assert.deepEqual(
    later.received.map((one) => messageOf(one).agent_id),
    ['again'],
  );
  assert.equal((await verifier.status('bystander')).operational_state, GET_QUOTE);
  const { attestation_count } = await verifier.status('bystander');
  await verifier.until('bystander', (status) => status.attestation_count > attestation_count);
});
