import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { connectNats, type NatsSettings } from '@keylime/service/nats-connection';
import { type NatsServer, startNatsServer } from '@keylime/testing/nats-server';
import { jetstreamManager } from '@nats-io/jetstream';
import { openNatsChannel } from './nats-channel.ts';
import type { Delivery } from './outbox.ts';

const connection = ({ port }: NatsServer): NatsSettings => ({
  servers: [`nats://127.0.0.1:${port}`],
  name: 'test',
  login: undefined,
  tls: { trustedCas: [] },
});

const delivery = (notificationId: string, type = 'revocation'): Delivery => ({
  ...{ sequence: 1, notificationId, agentId: 'm7', channel: 'nats', createdAtMs: 0, attempts: 0 },
  body: JSON.stringify({ msg: JSON.stringify({ type }), signature: 's' }),
  ...{ target: undefined, spreadUpTo: undefined },
});

async function channel(t: TestContext, server: NatsServer, stream = 'alarms') {
  const settings = { connection: async () => connection(server), subject: 'site.alarms', stream, verifierId: 'v 1' };
  const opened = openNatsChannel(settings);
  t.after(() => opened.close());
  return opened;
}

async function start(t: TestContext) {
  const server = await startNatsServer();
  t.after(() => server.stop());
  const nats = await connectNats(connection(server));
  t.after(() => nats.close());
  return { server, streams: (await jetstreamManager(nats)).streams };
}

test('[MUST] a notification that is delivered again, because its answer was lost, is stored once', async (t) => {
  const { server, streams } = await start(t);
  const one = await channel(t, server);
  for (const id of ['a', 'b', 'a']) await one.deliver(delivery(id));
  await (await channel(t, server)).deliver(delivery('b'));
  assert.equal((await streams.info('alarms')).state.messages, 2);
});

test('the type of a notification is in its subject and its event', async (t) => {
  const { server, streams } = await start(t);
  await (await channel(t, server)).deliver(delivery('a', 'comm_error'));
  const stored = await streams.getMessage('alarms', { seq: 1 });
  assert.equal(stored?.subject, 'site.alarms.comm_error');
  const { type, source } = stored.json<{ type: string; source: string }>();
  assert.deepEqual([type, source], ['dev.keylime.comm_error', '/keylime/verifiers/v%201']);
});

test('a stream that an operator made is used as it is; one that does not take the subject is a failure', async (t) => {
  const { server, streams } = await start(t);
  await streams.add({ name: 'alarms', subjects: ['site.>'], max_msgs: 5 });
  await (await channel(t, server)).deliver(delivery('a'));
  const { config, state } = await streams.info('alarms');
  assert.deepEqual([config.max_msgs, config.subjects, state.messages], [5, ['site.>'], 1]);
  await streams.add({ name: 'other', subjects: ['elsewhere'] });
  await assert.rejects((await channel(t, server, 'other')).deliver(delivery('b')), /expected stream does not match/);
  assert.equal((await streams.info('alarms')).state.messages, 1);
});

test('a server that went away is a failure, and is connected to again when it is back', async (t) => {
  const { server } = await start(t);
  const one = await channel(t, server);
  await one.deliver(delivery('a'));
  await server.halt();
  await assert.rejects(one.deliver(delivery('b')));
  await server.resume();
  for (let tries = 0; ; tries++) {
    try {
      await one.deliver(delivery('b'));
      break;
    } catch (error) {
      if (tries === 5) throw error;
    }
  }
});
