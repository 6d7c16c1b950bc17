import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectedAttributes } from '@keylime/api/push-evidence';
import { sessionRequestAttributes } from '@keylime/api/push-session';
import { startPostgres } from '@keylime/testing/postgres';
import { encodePublic } from '@keylime/tpm/public';
import { refusalOf, startPushMachine } from './push-harness.ts';
import { enrolment, eventually, freePort, startAttackedVerifier } from './verifier-harness.ts';
import { messageOf, webhookReceiver } from './webhook-receiver.ts';

const settings = { mode: 'push', quote_interval: '0' };

test('P4: an agent that falls silent is missed once, also one that never spoke, and both come back by themselves', async (t) => {
  const verifier = await startAttackedVerifier({ settings });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, 'silent');
  t.after(machine.stop);
  const mute = await startPushMachine(verifier, 'mute');
  t.after(mute.stop);
  await machine.enrol();
  await mute.enrol();
  assert.equal((await verifier.status('mute')).attestation_status, 'PENDING');
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.status('silent')).attestation_status, 'PASS');
  for (const id of ['silent', 'mute']) {
    await verifier.until(id, ({ attestation_status: status }) => status === 'TIMEOUT');
  }
  assert.equal(verifier.log().match(/An agent sent no evidence in time/g)?.length, 2);
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.status('silent')).attestation_status, 'PASS');
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/mute/reactivate' })).code, 200);
  assert.equal((await verifier.status('mute')).attestation_status, 'PENDING');
});

test('P7: a failure and a silence are told as for agents that are polled, and a failure waits for an operator', async (t) => {
  const port = await freePort();
  const receiver = await webhookReceiver(t, port);
  const told = (type: string) => receiver.received.map(messageOf).find((message) => message.type === type);
  const verifier = await startAttackedVerifier({
    settings: {
      ...settings,
      enabled_revocation_notifications: "['webhook', 'agent']",
      webhook_url: `http://127.0.0.1:${port}/`,
    },
  });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, 'failing');
  t.after(machine.stop);
  await machine.enrol();
  assert.equal((await machine.attest()).evaluation, 'pass');
  await machine.measure('/usr/bin/implant');
  assert.equal((await machine.attest()).evaluation, 'fail');
  await eventually(verifier, 'the failure is told', () => told('revocation') !== undefined);
  const { agent_id: agent, ip, port: agentPort } = told('revocation') ?? {};
  assert.deepEqual([agent, ip, agentPort], ['failing', null, null]);
  await eventually(verifier, 'the silence is told', () => told('comm_error') !== undefined);
  // As if the file had never been there; the failure stays until somebody looked.
  await machine.reboot();
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.status('failing')).attestation_status, 'FAIL');
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/failing/reactivate' })).code, 200);
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.status('failing')).attestation_status, 'PASS');
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/failing/stop' })).code, 200);
  assert.deepEqual(refusalOf(await machine.offer()).slice(0, 2), [403, 'agent_attestations_disabled']);
});

test('P6, P11: sessions, challenges and tokens outlive a verifier, on PostgreSQL as well', async (t) => {
  const postgres = await startPostgres();
  t.after(postgres.stop);
  const verifier = await startAttackedVerifier({ settings: { ...settings, database_url: postgres.url } });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, 'patient');
  t.after(machine.stop);
  await machine.enrol();
  await machine.login();
  const asked = await machine.offer();
  assert.equal(asked.code, 201, asked.text);
  await verifier.kill();
  await verifier.start();
  const sent = await machine.send('PATCH', 'latest', collectedAttributes(await machine.evidence(asked)));
  assert.equal(sent.code, 202, sent.text);
  assert.equal((await machine.verdict()).evaluation, 'pass');
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/patient' })).code, 200);
  await machine.enrol();
  await machine.login();
  assert.equal((await machine.attest()).number, 0, 'nothing is left of what was deleted');
});

test('an agent reaches any verifier that shares the database, and the one that it is enrolled with judges', async (t) => {
  const postgres = await startPostgres();
  t.after(postgres.stop);
  const shared = { ...settings, database_url: postgres.url };
  const own = await startAttackedVerifier({ settings: { ...shared, uuid: 'own' } });
  t.after(own.stop);
  const other = await startAttackedVerifier({ settings: { ...shared, uuid: 'other' } });
  t.after(other.stop);
  const machine = await startPushMachine(other, 'roaming');
  t.after(machine.stop);
  const registered = { ak_tpm: encodePublic(machine.ak().public).toString('base64'), mtls_cert: '' };
  const json = enrolment({ port: 0, registered });
  assert.equal((await own.ask({ method: 'POST', path: '/v2.6/agents/roaming', json })).code, 200);
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.deepEqual([own.outcomes('roaming'), other.outcomes('roaming')], [['affirming'], []]);
  assert.equal((await own.status('roaming')).attestation_status, 'PASS');
});

test('P5: sessions are limited for an address, not for an agent, and evidence comes at its pace', async (t) => {
  const verifier = await startAttackedVerifier({
    settings: { mode: 'push', quote_interval: '30', session_create_rate_limit_per_ip: '4' },
  });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, 'paced');
  t.after(machine.stop);
  await machine.enrol();
  assert.equal((await machine.attest()).evaluation, 'pass');
  const early = await machine.offer();
  assert.deepEqual(refusalOf(early).slice(0, 2), [429, 'premature_attestation']);
  const wait = Number(early.headers['retry-after']);
  assert.ok(wait >= 28 && wait <= 30, String(wait));
  const answers: number[] = [];
  for (let n = 0; n < 4; n++) {
    answers.push((await machine.send('POST', '/v3.0/sessions', sessionRequestAttributes('anybody'))).code);
  }
  assert.deepEqual(answers, [200, 200, 200, 429]);
  const proofs: number[] = [];
  for (let n = 0; n < 4; n++) {
    const path = `/v3.0/sessions/00000000-0000-4000-8000-00000000000${n}`;
    proofs.push((await machine.send('PATCH', path, sessionRequestAttributes('anybody'))).code);
  }
  assert.deepEqual(proofs, [404, 404, 404, 429], 'proofs for sessions that do not exist are limited, too');
  // [MUST] The body of who sent too much is not waited for: of these, one byte comes.
  for (const [method, path] of [
    ['POST', '/v3.0/sessions'],
    ['PATCH', '/v3.0/sessions/x'],
  ] as const) {
    const headers = { 'content-type': 'application/json', 'content-length': '60000' };
    const limited = await verifier.ask({ method, path, body: '{', as: 'nobody', headers });
    assert.equal(limited.code, 429, limited.text);
    assert.ok(Number(limited.headers['retry-after']) >= 1);
  }
});

test('[MUST] a challenge that has expired takes no evidence', async (t) => {
  const verifier = await startAttackedVerifier({ settings: { ...settings, challenge_lifetime: '1' } });
  t.after(verifier.stop);
  const machine = await startPushMachine(verifier, 'late');
  t.after(machine.stop);
  await machine.enrol();
  await machine.login();
  const asked = await machine.offer();
  const evidence = collectedAttributes(await machine.evidence(asked));
  await new Promise((resolve) => setTimeout(resolve, 1100));
  assert.deepEqual(refusalOf(await machine.send('PATCH', 'latest', evidence)).slice(0, 2), [403, 'challenges_expired']);
  assert.equal((await verifier.status('late')).attestation_count, 0);
});
