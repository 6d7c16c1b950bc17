import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { softwareAk } from '@keylime/testing/software-ak';
import { type TestCa, type TestIdentity, testAgentIdentity, testCa } from '@keylime/testing/test-certificates';
import { encodePublic } from '@keylime/tpm/public';
import { type AttackedVerifier, assertFails, FAILED, GET_QUOTE, startAttackedVerifier } from './verifier-harness.ts';

/*
 * An agent renews its certificate, and the verifier learns of it from the registrar. Somebody who shows another certificate
 * hopes to be taken for that agent. The registrar here says what each test has it say.
 */
let ca: TestCa;
let registrar: Registrar;
let verifier: AttackedVerifier;
before(async () => {
  ca = await testCa();
  registrar = await startRegistrar(await ca.issue({ purpose: 'serverAuth', names: ['127.0.0.1'] }));
  verifier = await startAttackedVerifier({ ca, settings: { registrar_port: String(registrar.port) } });
});
after(async () => {
  await verifier?.stop();
  await registrar?.stop();
});

const DAY_MS = 86_400_000;
const renewedOf = (agent: LyingAgent, notAfter = new Date(Date.now() + 9 * DAY_MS)) =>
  testAgentIdentity(agent.id, { notAfter }, agent.identity.keyPem);

async function attested(id: string): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

async function passesOn(id: string): Promise<void> {
  const { attestation_count: count } = await verifier.status(id);
  const status = await verifier.until(id, ({ attestation_count }) => attestation_count > count + 2);
  assert.equal(status.operational_state, GET_QUOTE);
}

test('an agent that has renewed its certificate is attested on, also by the next process, which asks nobody', async () => {
  const agent = await attested('renewed');
  const renewed = await renewedOf(agent);
  registrar.knows(agent, { mtls_cert: renewed.certPem });
  agent.show(renewed);
  await passesOn(agent.id);
  assert.match(verifier.log(), /The agent has a new certificate, which its registration vouches for .*agent=renewed/);
  assert.equal(registrar.questions(agent.id), 1);
  await verifier.kill();
  await verifier.start();
  await passesOn(agent.id);
  assert.equal(registrar.questions(agent.id), 1);
});

test('an agent whose certificate has ended is attested again when it is registered with another', async () => {
  const agent = await verifier.agent('ended');
  const ended = await renewedOf(agent, new Date(Date.now() - 1000));
  const renewed = await renewedOf(agent);
  agent.show(renewed);
  registrar.knows(agent, { mtls_cert: renewed.certPem });
  await verifier.enrol(agent, { mtls_cert: ended.certPem });
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 1);
});

test('an agent that has not renewed its certificate, which has ended, is said to need another', async () => {
  const agent = await verifier.agent('over');
  const { certPem } = await renewedOf(agent, new Date(Date.now() - 1000));
  registrar.knows(agent, { mtls_cert: certPem });
  await verifier.enrol(agent, { mtls_cert: certPem });
  await assertFails(verifier, agent, {
    event: 'internal.verifier.not_reachable',
    message: /the registered certificate is valid from .* to /,
    state: FAILED,
  });
  assert.match(verifier.log(), /agent=over reason="the registered certificate does not hold now"/);
});

const refusals: readonly [
  name: string,
  record: (agent: LyingAgent, shown: TestIdentity) => Promise<Readonly<Record<string, unknown>> | undefined>,
  said: RegExp,
][] = [
  ['that nobody registered', async () => undefined, /there is no active registration/],
  [
    'registered for another TPM',
    async (_, { certPem }) => ({
      mtls_cert: certPem,
      aik_tpm: encodePublic(softwareAk({ encryption: 'ecc256' }).public).toString('base64'),
    }),
    /another AK is registered/,
  ],
  ['while the registered one is as before', async () => ({}), /somebody else may be at its address/],
  ['while none is registered any more', async () => ({ mtls_cert: 'disabled' }), /without a certificate/],
  [
    'that has ended',
    async (agent) => ({ mtls_cert: (await renewedOf(agent, new Date(Date.now() - 1000))).certPem }),
    /does not hold now/,
  ],
];

for (const [n, [name, record, said]] of refusals.entries()) {
  test(`[MUST] a certificate ${name} is not the agent's, and nothing is asked of who shows it`, async () => {
    const agent = await attested(`refused-${n}`);
    const shown = await renewedOf(agent);
    const says = await record(agent, shown);
    if (says !== undefined) registrar.knows(agent, says);
    const asked = agent.asked.length;
    agent.show(shown);
    await assertFails(verifier, agent, {
      event: 'internal.verifier.not_reachable',
      message: /it shows another certificate than the registered one/,
      state: FAILED,
    });
    assert.ok(agent.asked.length <= asked + 1, 'a request that was under way, at most');
    assert.match(verifier.log(), new RegExp(`agent=refused-${n} .*${said.source}`));
    assert.equal(registrar.questions(agent.id), 1, 'not at each of its rounds');
  });
}

test('[MUST] a certificate of another key is not taken, whoever got it into the registration', async () => {
  const agent = await attested('other-key');
  const shown = await testAgentIdentity(agent.id);
  registrar.knows(agent, { mtls_cert: shown.certPem });
  agent.show(shown);
  await assertFails(verifier, agent, {
    event: 'internal.verifier.not_reachable',
    message: /it shows another certificate/,
    state: FAILED,
  });
  assert.match(verifier.log(), /agent=other-key .*for another key: see agent_certificate_renewal/);
});

test('[MUST] who shows yet another certificate than the registered one is not taken for the agent', async () => {
  const agent = await attested('third');
  registrar.knows(agent, { mtls_cert: (await renewedOf(agent)).certPem });
  agent.show(await renewedOf(agent));
  await assertFails(verifier, agent, {
    event: 'internal.verifier.not_reachable',
    message: /it shows another certificate/,
    state: FAILED,
  });
});

for (const [name, settings, identity] of [
  ["is not the operator's", {}, async () => (await testCa('Other')).issue({ names: ['127.0.0.1'] })],
  ['has a certificate for another name', {}, () => ca.issue({ purpose: 'serverAuth', names: ['10.9.8.7'] })],
  ['is not to be asked', { agent_certificate_renewal: 'off' }, () => ca.issue({ names: ['127.0.0.1'] })],
] as const) {
  test(`[MUST] a registrar that ${name} is believed nothing`, async (t) => {
    const other = await startRegistrar(await identity());
    t.after(other.stop);
    const strict = await startAttackedVerifier({ ca, settings: { registrar_port: String(other.port), ...settings } });
    t.after(strict.stop);
    const agent = await strict.agent('misled');
    await strict.enrol(agent);
    await strict.until('misled', ({ attestation_count }) => attestation_count > 0);
    const renewed = await renewedOf(agent);
    other.knows(agent, { mtls_cert: renewed.certPem });
    agent.show(renewed);
    await assertFails(strict, agent, {
      event: 'internal.verifier.not_reachable',
      message: /it shows another certificate/,
      state: FAILED,
    });
    assert.equal(other.questions(agent.id), 0);
  });
}

test('any key will do where the operator says so', async (t) => {
  const settings = { registrar_port: String(registrar.port), agent_certificate_renewal: 'any_key' };
  const lenient = await startAttackedVerifier({ ca, settings });
  t.after(lenient.stop);
  const agent = await lenient.agent('new-key');
  await lenient.enrol(agent);
  const { attestation_count: count } = await lenient.until(agent.id, (status) => status.attestation_count > 0);
  const shown = await testAgentIdentity(agent.id);
  registrar.knows(agent, { mtls_cert: shown.certPem });
  agent.show(shown);
  await lenient.until(agent.id, ({ attestation_count }) => attestation_count > count + 2);
});

type Registrar = {
  readonly port: number;
  /** Answers so when it is asked for this agent. */
  readonly knows: (agent: LyingAgent, changes: Readonly<Record<string, unknown>>) => void;
  readonly questions: (id: string) => number;
  readonly stop: () => Promise<void>;
};

/** Answers nobody but those whose certificate is of the CA. */
async function startRegistrar({ certPem, keyPem }: TestIdentity): Promise<Registrar> {
  const records = new Map<string, object>();
  const questions = new Map<string, number>();
  const tls = { cert: certPem, key: keyPem, ca: ca.certPem, requestCert: true, rejectUnauthorized: true };
  const server: Server = createServer(tls, ({ url = '/' }, response) => {
    const send = (code: number, results: object) =>
      response
        .writeHead(code, { 'content-type': 'application/json' })
        .end(JSON.stringify({ code, status: '', results }));
    if (url === '/version') return send(200, { current_version: '2.6', supported_versions: ['2.1', '2.6', '3.0'] });
    const [, id = ''] = /^\/v2\.6\/agents\/(.+)$/.exec(url) ?? [];
    questions.set(id, (questions.get(id) ?? 0) + 1);
    const record = records.get(id);
    return record === undefined ? send(404, {}) : send(200, record);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    knows: ({ id, registered: { ak_tpm: aik_tpm, mtls_cert } }, changes) => {
      records.set(id, { aik_tpm, mtls_cert, regcount: 1, ip: '127.0.0.1', port: 9002, ...changes });
    },
    questions: (id) => questions.get(id) ?? 0,
    async stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
