import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { freePort } from '@keylime/service/free-port';
import { openPublisher } from '@keylime/verifier/notifications/zeromq-channel';
import { openAttackedAgent, type Revocation } from './agent-harness.ts';
import { calls, openNatsRevocations, record } from './revocation-record.ts';

/*
 * An agent that attests by itself and does not listen hears alarms over ZeroMQ and NATS, and verifies them with the
 * certificates that its operator installed: no payload brings any. That its verifier is away does not matter.
 */
const ACTION = 'local_action_record';

/** A push agent with an action that notes whom a message is about. */
async function openPushAgent(t: TestContext, channel: Readonly<Record<string, string | number | boolean>>) {
  const one = await openAttackedAgent(t);
  const action = path.join(one.home, 'installed', ACTION);
  writeFileSync(action, record(one));
  chmodSync(action, 0o755);
  const certificates = path.join(one.home, 'verifier-certs.pem');
  const settings = {
    ...{ mode: 'push', verifier_url: `https://127.0.0.1:${await freePort()}`, revocation_actions: `['${ACTION}']` },
    ...{ revocation_verifier_certs: `['${certificates}']`, ...channel },
  };
  return {
    ...one,
    start: () => one.start(settings),
    installCertificate: () => writeFileSync(certificates, one.notifierCertificate),
  };
}

const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;

test('[MUST] a push agent acts upon revocations over ZeroMQ once, and upon forged ones never', async (t) => {
  const port = await freePort();
  const publisher = await openPublisher({ host: '127.0.0.1', port, settleMs: 0 });
  t.after(() => publisher.close());
  const publish = (message: Revocation) => publisher.publish({ body: JSON.stringify(message) });
  const channel = { enable_revocation_notifications: true, revocation_notification_port: port };
  const one = await openPushAgent(t, channel);
  one.installCertificate();
  await one.start();
  await one.said(/Subscribed to revocations/);
  await publish(one.revocation({ agent_id: 'forged' }, stranger));
  await one.said(/A revocation is refused: its signature/);
  const first = one.revocation({ agent_id: 'first' });
  await publish(first);
  await one.said(/Revocation action local_action_record succeeded/);
  await publish(first);
  await one.said(/acted upon before is not repeated/);
  assert.deepEqual(calls(one), ['first']);
});

test('[MUST] a push agent acts upon revocations over NATS, also upon those of the time when it was killed', async (t) => {
  const { settings, publish } = await openNatsRevocations(t);
  const one = await openPushAgent(t, settings);
  one.installCertificate();
  await one.start();
  await one.said(/Taking revocations from NATS/);
  await publish(one.revocation({ agent_id: 'forged' }, stranger));
  const first = one.revocation({ agent_id: 'first' });
  await publish(first);
  await publish(first);
  await one.said(/acted upon before is not repeated/);
  await one.kill();
  await publish(one.revocation({ agent_id: 'away' }));
  await one.start();
  await one.said(/Revocation action local_action_record succeeded/);
  assert.deepEqual(calls(one), ['first', 'away']);
});

test('a push agent that cannot verify any revocation says so, and can as soon as the certificate is there', async (t) => {
  const port = await freePort();
  const publisher = await openPublisher({ host: '127.0.0.1', port, settleMs: 0 });
  t.after(() => publisher.close());
  const channel = { enable_revocation_notifications: true, revocation_notification_port: port };
  const one = await openPushAgent(t, channel);
  await one.start();
  await one.said(/none can be verified: put the verifier's certificates .* into a file of revocation_verifier_certs/);
  await one.said(/Subscribed to revocations/);
  one.installCertificate();
  await publisher.publish({ body: JSON.stringify(one.revocation({ agent_id: 'peer' })) });
  await one.said(/Revocation action local_action_record succeeded/);
  assert.deepEqual(calls(one), ['peer']);
});
