import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { agentIdTaken, IDENTITY_CHANGED } from '@keylime/api/registrar/registration';
import { type SoftwareTpm, softwareTpm } from '@keylime/registrar/forge-registration';
import { type Answer, type RegistrarProcess, startRegistrarProcess } from '@keylime/registrar/registrar-process';
import { startTpmRegistrant, type TpmRegistrant } from '@keylime/registrar/tpm-registrant';
import { testAgentIdentity } from '@keylime/testing/test-certificates';

/*
 * Hole 3 (02 G4): registration and activation are open to everybody. Nothing that somebody without the agent's TPM sends
 * may delete, hide or change the record of a live agent, or keep the agent from activating itself.
 * The attacker has the victim's public data and speaks from the victim's own address, which is the worst case.
 */
let registrar: RegistrarProcess;
let machine: TpmRegistrant;
const attacker: SoftwareTpm = softwareTpm();
before(async () => {
  registrar = await startRegistrarProcess();
  machine = await startTpmRegistrant();
});
after(async () => {
  await machine?.stop();
  await registrar?.stop();
});

let counter = 0;
let id = '';
let one = '';
let live: Answer;
const post = (json: unknown) => registrar.ask({ method: 'POST', path: one, json });
const put = (auth_tag: string, tail = '') =>
  registrar.ask({ method: 'PUT', path: `${one}${tail}`, json: { auth_tag } });
const record = () => registrar.ask({ method: 'GET', path: one, as: registrar.admin });
const answerTo = (registered: Answer) => machine.answer(String(registered.results.blob), id);

beforeEach(async () => {
  id = `victim-${counter++}`;
  one = `/v2.6/agents/${id}`;
  const { certPem } = await testAgentIdentity(id);
  const registered = await post(machine.body({ mtls_cert: certPem }));
  assert.equal((await put(await answerTo(registered))).code, 200);
  live = await record();
  assert.equal(live.code, 200);
});
const isUnharmed = async () => assert.deepEqual((await record()).json, live.json);

test('[MUST 02 G4] a wrong tag does not delete a live agent, on any of the routes', async () => {
  for (const send of [
    () => put('0'.repeat(96)),
    () => put('0'.repeat(96), '/activate'),
    () => registrar.ask({ method: 'POST', path: `${one}/activate`, json: { auth_tag: '' } }),
    () => registrar.ask({ method: 'POST', path: `/v3.0/agents/${id}/activate`, json: { auth_tag: 'x' } }),
  ]) {
    const answer = await send();
    assert.equal(answer.code, 400);
    assert.match(answer.status, new RegExp(`^Auth tag '.*' for agent '${id}' does not match expected value\\.`));
    await isUnharmed();
  }
});

test('the answer to a wrong tag does not hold the right one (CVE-2023-38201)', async () => {
  const registered = await post(machine.body());
  const right = await answerTo(registered);
  const answer = await put(`${right.slice(0, -1)}${right.endsWith('0') ? '1' : '0'}`);
  assert.equal(answer.code, 400);
  assert.ok(!answer.text.includes(right));
  assert.ok(!registrar.output().includes(right));
});

test('[MUST] a registration with the public keys of a live agent neither hides nor changes it', async () => {
  const { certPem } = await testAgentIdentity('attacker');
  const answer = await post(machine.body({ ip: '6.6.6.6', port: 666, mtls_cert: certPem }));
  assert.equal(answer.code, 200);
  await isUnharmed();
});

test('[MUST] address, port and certificate alone do not change a live agent', async () => {
  const { certPem } = await testAgentIdentity('attacker');
  for (const body of [
    { ip: '6.6.6.6', port: 666 },
    { mtls_cert: certPem },
    { mtls_cert: 'disabled' },
    { ip: null },
    {},
  ]) {
    assert.equal((await post(body)).code, 200);
    await isUnharmed();
  }
});

test('what is staged takes effect only when the TPM itself answers', async () => {
  const registered = await post({ ip: '10.0.0.7' });
  assert.equal((await put('0'.repeat(96))).code, 400); // voids it: it came from the same address
  assert.equal((await put(await answerTo(registered))).code, 400);
  await isUnharmed();
  assert.equal((await put(await answerTo(await post({ ip: '10.0.0.7' })))).code, 200);
  assert.deepEqual((await record()).results, { ...live.results, ip: '10.0.0.7' });
});

test('[MUST R2] another EK, EK certificate or AK is refused for a live agent', async () => {
  const { ek_tpm, aik_tpm } = attacker.body();
  const { ekcert } = machine.body();
  assert.notEqual(ekcert, '');
  const changed = Buffer.from(String(ekcert), 'base64');
  changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1); // its signature
  for (const body of [
    attacker.body(),
    machine.body({ ek_tpm }),
    machine.body({ aik_tpm }),
    machine.body({ ekcert: changed.toString('base64') }),
    machine.body({ ekcert: '' }),
    { aik_tpm },
    { ek_tpm: null },
  ]) {
    const answer = await post(body);
    assert.deepEqual([answer.code, answer.status, answer.results], [403, IDENTITY_CHANGED, {}]);
    await isUnharmed();
  }
});

test('a challenge of another TPM from before the first activation does not take the id over', async () => {
  const agents = '/v2.6/agents/contested';
  const ask = (json: unknown) => registrar.ask({ method: 'POST', path: agents, json });
  const attackers = attacker.answer(String((await ask(attacker.body())).results.blob), 'contested');
  const victims = await machine.answer(String((await ask(machine.body())).results.blob), 'contested');
  const activate = (auth_tag: string) => registrar.ask({ method: 'PUT', path: agents, json: { auth_tag } });
  assert.equal((await activate(victims)).code, 200);
  const late = await activate(attackers);
  assert.ok(late.code === 400 || (late.code === 403 && late.status === agentIdTaken('contested')), late.text);
  const { results } = await registrar.ask({ method: 'GET', path: agents, as: registrar.admin });
  assert.equal(results.ek_tpm, machine.body().ek_tpm);
});

test('an attacker who registers the same agent does not void the challenge of the agent itself', async () => {
  const registered = await post(machine.body({ ip: '10.0.0.8' }));
  assert.equal((await post(machine.body({ ip: '6.6.6.6' }))).code, 200);
  assert.equal((await put(await answerTo(registered))).code, 200);
  assert.equal((await record()).results.ip, '10.0.0.8');
});

test('a tag is of use once: sent again it changes nothing back', async () => {
  const tag = await answerTo(await post({ ip: '10.0.0.9' }));
  assert.equal((await put(tag)).code, 200);
  assert.equal((await put(await answerTo(await post({ ip: '10.0.0.10' })))).code, 200);
  assert.equal((await put(tag)).code, 400);
  assert.equal((await record()).results.ip, '10.0.0.10');
});

test('the challenge of one agent does not activate another', async () => {
  const other = '/v2.6/agents/other-agent';
  const registered = await registrar.ask({ method: 'POST', path: other, json: machine.body() });
  const tagForVictim = await machine.answer(String(registered.results.blob), id);
  assert.equal((await registrar.ask({ method: 'PUT', path: other, json: { auth_tag: tagForVictim } })).code, 400);
  const { status } = await registrar.ask({ method: 'GET', path: other, as: registrar.admin });
  assert.equal(status, "Agent with ID 'other-agent' not found");
});
