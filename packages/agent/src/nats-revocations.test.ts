import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { connectNats, type NatsSettings } from '@keylime/service/nats-connection';
import { type NatsServer, startNatsServer } from '@keylime/testing/nats-server';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import { consumeRevocations } from './nats-revocations.ts';
import { openReceiver } from './subscription.fixture.ts';

const STREAM = 'keylime_revocations';
const SUBJECT = 'keylime.revocations';

const connection = ({ port }: NatsServer): NatsSettings => ({
  servers: [`nats://127.0.0.1:${port}`],
  name: 'test',
  login: undefined,
  tls: { trustedCas: [] },
});

async function server(t: TestContext): Promise<NatsServer> {
  const started = await startNatsServer();
  t.after(() => started.stop());
  return started;
}

/** Publishes as the verifier does; the stream is made with the first one. */
async function publish(to: NatsServer, ...events: readonly unknown[]): Promise<void> {
  const nats = await connectNats(connection(to));
  const { streams } = await jetstreamManager(nats);
  await streams.add({ name: STREAM, subjects: [`${SUBJECT}.>`] });
  for (const event of events) {
    const text = typeof event === 'string' ? event : JSON.stringify(event);
    await jetstream(nats).publish(`${SUBJECT}.revocation`, text);
  }
  await nats.close();
}

const message = (n: number) => ({ msg: `{"n": ${n}}`, signature: `s${n}` });
const event = (n: number) => ({ specversion: '1.0', id: `${n}`, type: 'dev.keylime.revocation', data: message(n) });

function consume(from: NatsServer, agentId = 'agent.1') {
  const { revocations, log, ...heard } = openReceiver();
  const subscription = { agentId, stream: STREAM, subject: SUBJECT, connection: async () => connection(from) };
  const { close } = consumeRevocations(subscription, revocations, log, { reconnectMs: 50, fullQueueMs: 50 });
  return { ...heard, close };
}

test('revocations arrive once, in order, also those that came before there was a stream to take them from', async (t) => {
  const nats = await server(t);
  const one = consume(nats);
  await one.said(/NATS gives no revocations; it is tried again problem="stream not found/);
  await publish(nats, event(1), event(2));
  await one.until(() => one.offered.length === 2);
  await publish(nats, event(3));
  await one.until(() => one.offered.length === 3);
  assert.deepEqual(one.offered, [message(1), message(2), message(3)]);
  await one.close();
});

test('[MUST] what came while the agent was away, or the server was, is not lost and not repeated', async (t) => {
  const nats = await server(t);
  await publish(nats, event(1));
  const first = consume(nats);
  await first.until(() => first.offered.length === 1);
  await first.close();
  await publish(nats, event(2));
  const second = consume(nats);
  await second.until(() => second.offered.length === 1);
  await nats.halt();
  await second.said(/NATS gives no revocations; it is tried again/);
  await nats.resume();
  await publish(nats, event(3));
  await second.until(() => second.offered.length === 2);
  assert.deepEqual(second.offered, [message(2), message(3)]);
  await second.close();
});

test('each agent has its own place in the stream, whatever its name', async (t) => {
  const nats = await server(t);
  await publish(nats, event(1));
  const agents = ['a', 'a.b', 'a-b', '..'].map((id) => consume(nats, id));
  for (const one of agents) {
    await one.until(() => one.offered.length === 1);
    await one.close();
  }
});

test('[MUST] what the queue has no place for stays with the server, and is not overtaken', async (t) => {
  const nats = await server(t);
  const one = consume(nats);
  one.setRoom(false);
  await publish(nats, event(1), event(2));
  await one.said(/A revocation stays with NATS: too many wait/);
  one.setRoom(true);
  await one.until(() => one.offered.length === 2);
  assert.deepEqual(one.offered, [message(1), message(2)]);
  await one.close();
});

test('[MUST] what is no CloudEvent of a revocation is left out, and does not come again', async (t) => {
  const nats = await server(t);
  const one = consume(nats);
  const long = { ...event(0), data: { msg: 'x'.repeat(300_000), signature: '' } };
  await publish(nats, 'no JSON', message(1), { ...event(1), specversion: '2.0' }, { ...event(1), data: 'x' }, long);
  await publish(nats, event(2));
  await one.until(() => one.offered.length > 0);
  assert.deepEqual(one.offered, [message(2)]);
  await one.said(/What arrived over NATS is no revocation subject=keylime\.revocations\.revocation/);
  await one.close();
});
