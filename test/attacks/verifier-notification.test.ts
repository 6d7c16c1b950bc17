import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync, verify } from 'node:crypto';
import { createServer } from 'node:https';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { testCa } from '@keylime/testing/test-certificates';
import { type AttackedVerifier, freePort, GET_QUOTE, offend, startAttackedVerifier } from './verifier-harness.ts';
import { messageOf, webhookReceiver } from './webhook-receiver.ts';

/*
 * Hole 11: an alarm goes to the receiver that was named, over the protocol that was named, and arrives, whatever happens
 * to the receiver or the verifier in between.
 */
async function notifying(t: TestContext, url: string, process = false): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier({
    settings: { enabled_revocation_notifications: "['webhook']", webhook_url: url },
    process,
  });
  t.after(() => verifier.stop());
  return verifier;
}

const serverOf = (verifier: AttackedVerifier) =>
  verifier.ca.issue({ commonNames: ['receiver'], purpose: 'serverAuth', names: ['127.0.0.1', 'localhost'] });

test('[MUST] hole 11: an https webhook is spoken to in TLS, signed, and told once', async (t) => {
  const port = await freePort();
  const verifier = await notifying(t, `https://127.0.0.1:${port}/hook?x=1`);
  const hook = await webhookReceiver(t, port, await serverOf(verifier));
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const revocation_key = privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  await offend(verifier, 'told', { revocation_key });
  const [one] = await hook.arrived(1);
  assert.ok(one);
  const { msg, signature } = JSON.parse(one.body);
  const key = createPublicKey(publicKey.export({ type: 'spki', format: 'pem' }));
  const padding = { key, padding: 6, saltLength: 222 };
  assert.ok(verify('sha256', Buffer.from(msg), padding, Buffer.from(signature, 'base64')));
  const { type, agent_id, event_id, severity_label, context, notification_id } = messageOf(one);
  assert.deepEqual(
    [type, agent_id, event_id, severity_label],
    ['revocation', 'told', 'ima.validation.ima-ng.not_in_allowlist', 'emergency'],
  );
  assert.equal(JSON.parse(String(context)).message, 'File not found in allowlist: /usr/bin/implant');
  assert.equal(one.delivery, notification_id);
  await offend(verifier, 'told-later');
  await hook.arrived(2);
  assert.equal(hook.received.filter((other) => messageOf(other).agent_id === 'told').length, 1);
  assert.ok(!one.body.includes('PRIVATE KEY'));
});

test('[MUST] hole 11: where https is not spoken, nothing goes out in clear', async (t) => {
  const port = await freePort();
  const hook = await webhookReceiver(t, port);
  const verifier = await notifying(t, `https://127.0.0.1:${port}/`);
  await offend(verifier, 'secret');
  await untilTried(verifier, 'secret');
  assert.ok(hook.state.connections > 0);
  assert.deepEqual(hook.received, []);
});

test('[MUST] a receiver with a certificate of a stranger, or for another name, is told nothing', async (t) => {
  const ports = [await freePort(), await freePort()] as const;
  for (const [n, port] of ports.entries()) {
    const verifier = await notifying(t, `https://127.0.0.1:${port}/`);
    const ca = n === 0 ? await testCa() : verifier.ca;
    const name = n === 0 ? '127.0.0.1' : 'elsewhere.example';
    const tls = await ca.issue({ commonNames: ['receiver'], purpose: 'serverAuth', names: [name] });
    const hook = await webhookReceiver(t, port, tls);
    await offend(verifier, `untrusted-${n}`);
    await untilTried(verifier, `untrusted-${n}`);
    assert.ok(hook.state.connections > 0);
    assert.deepEqual(hook.received, []);
  }
});

test('redirects of a receiver are not followed', async (t) => {
  const ports = [await freePort(), await freePort()] as const;
  const verifier = await notifying(t, `https://127.0.0.1:${ports[0]}/`);
  const tls = await serverOf(verifier);
  const elsewhere = await webhookReceiver(t, ports[1]);
  const server = createServer({ cert: tls.certPem, key: tls.keyPem }, (_, response) =>
    response.writeHead(307, { location: `http://127.0.0.1:${ports[1]}/` }).end(),
  ).listen(ports[0], '127.0.0.1');
  t.after(() => server.close().closeAllConnections());
  await offend(verifier, 'redirected');
  await untilTried(verifier, 'redirected');
  assert.equal(elsewhere.state.connections, 0);
});

test('[MUST] hole 11: a receiver that is down, then fails, then works is told exactly what was to be told', async (t) => {
  const port = await freePort();
  const verifier = await notifying(t, `https://127.0.0.1:${port}/`);
  await offend(verifier, 'patient');
  await untilTried(verifier, 'patient');
  const hook = await webhookReceiver(t, port, await serverOf(verifier));
  hook.state.code = 500;
  const [failed] = await hook.arrived(1);
  hook.state.code = 202;
  const [, told] = await hook.arrived(2);
  assert.deepEqual([told?.body, told?.delivery], [failed?.body, failed?.delivery]);
  await offend(verifier, 'patient-too');
  await hook.arrived(3);
  assert.deepEqual(
    hook.received.map((one) => messageOf(one).agent_id),
    ['patient', 'patient', 'patient-too'],
  );
});

test('a receiver that does not answer holds up no verdict, and not the end of the service', async (t) => {
  const port = await freePort();
  const verifier = await notifying(t, `https://127.0.0.1:${port}/`);
  const tls = await serverOf(verifier);
  const server = createServer({ cert: tls.certPem, key: tls.keyPem }, () => {}).listen(port, '127.0.0.1');
  t.after(() => server.close().closeAllConnections());
  for (let n = 0; n < 3; n++) await offend(verifier, `held-${n}`);
  const started = performance.now();
  await verifier.kill();
  assert.ok(performance.now() - started < 5000, 'it stops within its drain time');
});

test('[MUST] hole 11: a verifier that is killed between verdict and delivery tells after it is started again', async (t) => {
  const port = await freePort();
  const verifier = await notifying(t, `https://127.0.0.1:${port}/`, true);
  await offend(verifier, 'orphaned');
  await verifier.kill();
  const hook = await webhookReceiver(t, port, await serverOf(verifier));
  await verifier.start();
  const [one] = await hook.arrived(1);
  assert.ok(one);
  assert.deepEqual([messageOf(one).agent_id, messageOf(one).type], ['orphaned', 'revocation']);
  assert.ok((await verifier.status('orphaned')).operational_state > GET_QUOTE, 'the verdict stands');
});

test('an agent that was attested once and then is gone is told of as a failure to communicate', async (t) => {
  const port = await freePort();
  const verifier = await notifying(t, `https://127.0.0.1:${port}/`);
  const hook = await webhookReceiver(t, port, await serverOf(verifier));
  const never = await verifier.agent('never');
  never.lie({ respond: (request) => request.socket.destroy() });
  await verifier.enrol(never);
  await verifier.until('never', ({ operational_state }) => operational_state > GET_QUOTE);
  const agent = await verifier.agent('gone');
  await verifier.enrol(agent);
  await verifier.until('gone', ({ attestation_count }) => attestation_count > 0);
  agent.lie({ respond: (request) => request.socket.destroy() });
  const [one] = await hook.arrived(1);
  assert.ok(one);
  const { type, agent_id, event_id } = messageOf(one);
  assert.deepEqual([type, agent_id, event_id], ['comm_error', 'gone', 'internal.verifier.not_reachable']);
});

/** Waits until a delivery about this agent was tried and did not succeed. */
async function untilTried(verifier: AttackedVerifier, id: string): Promise<void> {
  const failed = new RegExp(`Notification not delivered.*agent=${id}`);
  for (let n = 0; n < 1000 && !failed.test(verifier.log()); n++) await sleep(10);
  assert.match(verifier.log(), failed);
}
