import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { openSubscriptions } from '@keylime/agent/revocation-channels';
import type { Revocations } from '@keylime/agent/revocations';
import { parseAgentId } from '@keylime/core/agent-id';
import { loadAgentConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { connectNats, type NatsSettings } from '@keylime/service/nats-connection';
import { type NatsPermissions, natsOperator, natsUserKey } from '@keylime/testing/nats-operator';
import { startNatsServer } from '@keylime/testing/nats-server';
import { testCa } from '@keylime/testing/test-certificates';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { eventually, offend, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Every way in which NATS knows its clients, with a real server: verifier and agent get in with what their settings name, and
 * not with anything else; an agent can do no more than take what is for it.
 */
const AGENT_ID = 'agent-1';
const STREAM = 'keylime_revocations';
const CONSUMER = `${STREAM}.keylime_agent_${AGENT_ID}`;

/** As docs/security.md says. */
const VERIFIER: NatsPermissions = {
  publish: [
    'keylime.revocations.*',
    `$JS.API.STREAM.INFO.${STREAM}`,
    `$JS.API.STREAM.CREATE.${STREAM}`,
    '$JS.API.INFO',
  ],
  subscribe: ['_INBOX.>'],
};
const AGENT: NatsPermissions = {
  publish: [
    '$JS.API.INFO',
    `$JS.API.CONSUMER.INFO.${CONSUMER}`,
    `$JS.API.CONSUMER.CREATE.${CONSUMER}.keylime.revocations.>`,
    `$JS.API.CONSUMER.MSG.NEXT.${CONSUMER}`,
    `$JS.ACK.${CONSUMER}.>`,
  ],
  subscribe: ['_INBOX.>'],
};

/** For the server's configuration file. */
const allow = ({ publish, subscribe }: NatsPermissions) =>
  `permissions: { publish: ${JSON.stringify(publish)}, subscribe: ${JSON.stringify(subscribe)} }`;

type Client = {
  readonly settings: Readonly<Record<string, string>>;
  readonly files?: Readonly<Record<string, string>>;
};
type Way = {
  readonly serverConfig: string;
  readonly verifier: Client;
  readonly agent: Client;
  readonly stranger: Client;
};

function operatorWay(): Way {
  const operator = natsOperator();
  const client = (text: string): Client => ({ settings: { credentials: 'nats.creds' }, files: { 'nats.creds': text } });
  return {
    serverConfig: operator.serverConfig,
    verifier: client(operator.credentials(VERIFIER)),
    agent: client(operator.credentials(AGENT)),
    stranger: client(natsOperator().credentials(VERIFIER)),
  };
}

function keyWay(): Way {
  const [verifier, agent, stranger] = [natsUserKey(), natsUserKey(), natsUserKey()];
  const client = ({ seed }: { readonly seed: string }): Client => ({
    settings: { credentials: 'nats.nk' },
    files: { 'nats.nk': `${seed}\n` },
  });
  const users = [
    `{ nkey: ${verifier.publicKey}, ${allow(VERIFIER)} }`,
    `{ nkey: ${agent.publicKey}, ${allow(AGENT)} }`,
  ];
  return {
    serverConfig: `authorization { users: [ ${users.join(', ')} ] }`,
    verifier: client(verifier),
    agent: client(agent),
    stranger: client(stranger),
  };
}

const passwordWay = (): Way => ({
  serverConfig: `authorization { users: [
    { user: verifier, password: "a secret", ${allow(VERIFIER)} }, { user: agent-1, password: "another", ${allow(AGENT)} } ] }`,
  verifier: { settings: { user: 'verifier', password: 'a secret' } },
  agent: { settings: { user: 'agent-1', password: 'another' } },
  stranger: { settings: { user: 'verifier', password: 'another' } },
});

const tokenWay = (): Way => ({
  serverConfig: 'authorization { token: "a token" }',
  verifier: { settings: { token: 'a token' } },
  agent: { settings: { token: 'a token' } },
  stranger: { settings: { token: 'another token' } },
});

for (const [name, makeWay] of [
  ['.creds of an operator', operatorWay],
  ['the seeds of NKeys', keyWay],
  ['users and passwords', passwordWay],
  ['a token', tokenWay],
] as const) {
  test(`[MUST] NATS that asks for ${name} lets in the verifier and the agent, and no stranger`, async (t) => {
    const way = makeWay();
    const server = await startNatsServer({ config: way.serverConfig });
    t.after(server.stop);
    const url = `nats://127.0.0.1:${server.port}`;
    const stranger = await startVerifier(t, url, way.stranger);
    await offend(stranger, 'unheard');
    await eventually(stranger, 'it was not refused', () =>
      /not delivered.*agent=unheard.*Authorization Violation/.test(stranger.log()),
    );
    const verifier = await startVerifier(t, url, way.verifier);
    const agent = await startAgent(t, url, way.agent);
    await offend(verifier, 'told');
    await eventually(verifier, 'nothing was delivered', () =>
      /Notification delivered.*agent=told/.test(verifier.log()),
    );
    await eventually(verifier, 'the agent was not told', () => agent.reported().includes('told'));
    for (const log of [stranger.log(), verifier.log(), agent.log()]) {
      assert.doesNotMatch(log, /a secret|another"|a token|SU[A-Z2-7]{56}/);
    }
  });
}

test('[MUST] a NATS server that wants a certificate of the agent is shown the one that was named', async (t) => {
  const ca = await testCa();
  const issue = (name: string) => ca.issue({ commonNames: [name], purpose: 'clientAuth', names: [name] });
  const own = await ca.issue({ commonNames: ['nats'], purpose: 'serverAuth', names: ['127.0.0.1'] });
  const server = await startNatsServer({ tls: { ...own, clientCaPem: ca.certPem } });
  t.after(server.stop);
  const url = `tls://127.0.0.1:${server.port}`;
  const verifier = await startVerifier(t, url, { settings: {} }, ca);
  const { certPem, keyPem } = await issue('agent-1.example');
  const files = { 'ca.crt': ca.certPem, 'own.crt': certPem, 'own.key': keyPem };
  const named = { client_cert: 'own.crt', client_key: 'own.key' };
  const without = await startAgent(t, url, { settings: { ca: 'ca.crt' }, files });
  await eventually(verifier, 'it was let in', () => /NATS gives no revocations/.test(without.log()));
  const agent = await startAgent(t, url, { settings: { ca: 'ca.crt', ...named }, files });
  await offend(verifier, 'told');
  await eventually(verifier, 'the agent was not told', () => agent.reported().includes('told'));
  assert.deepEqual(without.reported(), []);
});

test("[MUST] an agent's credentials forge nothing, take nothing of others, and delete nothing", async (t) => {
  const way = operatorWay();
  const server = await startNatsServer({ config: way.serverConfig });
  t.after(server.stop);
  const url = `nats://127.0.0.1:${server.port}`;
  const verifier = await startVerifier(t, url, way.verifier);
  await offend(verifier, 'told');
  await eventually(verifier, 'nothing was delivered', () => /Notification delivered.*agent=told/.test(verifier.log()));
  const text = way.agent.files?.['nats.creds'] ?? '';
  const settings: NatsSettings = {
    ...{ servers: [url], name: 'thief', tls: { trustedCas: [] } },
    login: { kind: 'credentials', text },
  };
  const thief = await connectNats(settings);
  t.after(() => thief.close());
  const { streams, consumers } = await jetstreamManager(thief);
  const violation = /[Pp]ermissions [Vv]iolation/;
  await assert.rejects(jetstream(thief).publish('keylime.revocations.revocation', '{}'), violation);
  await assert.rejects(streams.delete(STREAM), violation);
  await assert.rejects(streams.purge(STREAM), violation);
  await assert.rejects(streams.getMessage(STREAM, { seq: 1 }), violation);
  await assert.rejects(consumers.delete(STREAM, `keylime_agent_other`), violation);
  await assert.rejects(consumers.info(STREAM, `keylime_agent_other`), violation);
});

/** A verifier that publishes there; the options of `client` are those after `nats_`. */
async function startVerifier(
  t: TestContext,
  url: string,
  { settings, files = {} }: Client,
  ca = undefined as Awaited<ReturnType<typeof testCa>> | undefined,
) {
  const folder = await folderOf(t, files);
  const options = Object.entries(settings).map(([name, value]) => [
    `nats_${name}`,
    name === 'credentials' ? path.join(folder, value) : value,
  ]);
  const verifier = await startAttackedVerifier({
    settings: { enabled_revocation_notifications: "['nats']", nats_url: `['${url}']`, ...Object.fromEntries(options) },
    ...(ca && { ca }),
  });
  t.after(() => verifier.stop());
  return verifier;
}

/** What an agent takes from there, by the settings of a real one; the options of `client` are those after `revocation_nats_`. */
async function startAgent(t: TestContext, url: string, { settings, files = {} }: Client) {
  const folder = await folderOf(t, files);
  const variables = Object.entries(settings).map(([name, value]) => [
    `KEYLIME_AGENT_REVOCATION_NATS_${name.toUpperCase()}`,
    value,
  ]);
  const { config } = loadAgentConfig({
    env: {
      KEYLIME_DIR: folder,
      KEYLIME_AGENT_CONFIG: path.join(folder, 'agent.conf'),
      KEYLIME_AGENT_REVOCATION_NATS_URL: url,
      KEYLIME_AGENT_REVOCATION_NATS_CA: 'none.crt',
      ...Object.fromEntries(variables),
    },
  });
  let text = '';
  const log = openLog({
    name: 'keylime.agent',
    destination: {
      write: (line) => {
        text += line;
      },
    },
  });
  const reported: string[] = [];
  const revocations = {
    offer: async ({ msg }: { readonly msg: string }) => reported.push(String(JSON.parse(msg).agent_id)) > 0,
  } as Pick<Revocations, 'offer'> as Revocations;
  const agentId = parseAgentId(AGENT_ID);
  assert(agentId);
  const subscriptions = await openSubscriptions(config, { agentId, revocations, log });
  t.after(() => subscriptions[Symbol.asyncDispose]());
  return { reported: () => reported, log: () => text };
}

async function folderOf(t: TestContext, files: Readonly<Record<string, string>>): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'keylime-nats-login-'));
  t.after(() => rm(folder, { recursive: true }));
  const all = { 'agent.conf': '[agent]\n', 'none.crt': '', ...files };
  for (const [name, text] of Object.entries(all)) await writeFile(path.join(folder, name), text, { mode: 0o600 });
  return folder;
}
