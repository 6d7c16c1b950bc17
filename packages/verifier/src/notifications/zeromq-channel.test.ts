import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { greeting, message, ready, readyAndSubscribe } from '@keylime/api/zmtp';
import { openPublisher, type Publisher } from './zeromq-channel.ts';

/** What libzmq 4.3.5 (pyzmq 27.3) sends as SUB to this publisher: it is 3.1, and falls back to 3.0. */
const SUB_GREETING = Buffer.from(`ff00000000000000017f03014e554c4c${'00'.repeat(48)}`, 'hex');

async function publisher(t: TestContext, settleMs = 0): Promise<Publisher> {
  const opened = await openPublisher({ host: '127.0.0.1', port: 0, settleMs });
  t.after(() => opened.close());
  return opened;
}

/** Connects, says `first`, and gathers what comes back. */
async function peer(t: TestContext, { port }: Publisher, first: Buffer) {
  const socket: Socket = connect(port, '127.0.0.1');
  t.after(() => socket.destroy());
  let bytes = Buffer.alloc(0);
  socket.on('data', (chunk) => {
    bytes = Buffer.concat([bytes, chunk]);
  });
  socket.on('error', () => {});
  await once(socket, 'connect');
  socket.write(first);
  const closed = once(socket, 'close');
  return { socket, received: () => bytes, closed };
}

const until = async (condition: () => boolean) => {
  for (let n = 0; n < 1000 && !condition(); n++) await sleep(5);
  assert.ok(condition());
};

const prefix = Buffer.concat([greeting(), ready('PUB')]);
const topic = (text: string) => message(Buffer.from(`\x01${text}`, 'latin1'));

test('a subscriber gets every message whole, and one that subscribed to other beginnings gets none', async (t) => {
  const one = await publisher(t);
  const all = await peer(t, one, Buffer.concat([SUB_GREETING, readyAndSubscribe()]));
  const some = await peer(t, one, Buffer.concat([SUB_GREETING, ready('SUB'), topic('{"msg": "a')]));
  const none = await peer(t, one, Buffer.concat([SUB_GREETING, ready('SUB')]));
  await until(() => one.subscribers() === 3);
  await sleep(20);
  const bodies = ['{"msg": "a"}', `{"msg": "b${'x'.repeat(1000)}"}`];
  for (const body of bodies) await one.publish({ body });
  const [first = Buffer.alloc(0), second = Buffer.alloc(0)] = bodies.map((body) => message(Buffer.from(body)));
  await until(() => all.received().equals(Buffer.concat([prefix, first, second])));
  await until(() => some.received().equals(Buffer.concat([prefix, first])));
  assert.deepEqual(none.received(), prefix);
});

test('nobody is told nothing in silence, and nothing is published before subscribers could come back', async (t) => {
  const one = await publisher(t, 300);
  const startedAt = performance.now();
  await assert.rejects(one.publish({ body: '{}' }), /nobody subscribes over ZeroMQ/);
  assert.ok(performance.now() - startedAt >= 250);
});

test('an address that another program has is named', async (t) => {
  const { port } = await publisher(t);
  const taken = openPublisher({ host: '127.0.0.1', port });
  await assert.rejects(taken, { code: 'EADDRINUSE', message: /Cannot listen on 127\.0\.0\.1:\d+: another program/ });
});

test('[MUST] whoever speaks another protocol, too long or too much is cut off, and only he', async (t) => {
  const one = await publisher(t);
  const well = await peer(t, one, Buffer.concat([SUB_GREETING, readyAndSubscribe()]));
  const curve = Buffer.from(SUB_GREETING);
  curve.write('CURVE', 12, 'latin1');
  const strangers = [
    Buffer.from(`GET / HTTP/1.1\r\n${'x'.repeat(80)}`),
    curve,
    Buffer.concat([SUB_GREETING, Buffer.from('02ffffffffffffff00', 'hex')]),
    Buffer.concat([SUB_GREETING, topic('')]),
    Buffer.concat([SUB_GREETING, ready('SUB'), message(Buffer.alloc(2000, 1))]),
    Buffer.concat([SUB_GREETING, ready('SUB'), ...Array.from({ length: 17 }, (_, n) => topic(String(n)))]),
  ];
  for (const bytes of strangers) await (await peer(t, one, bytes)).closed;
  await until(() => one.subscribers() === 1);
  await one.publish({ body: '{}' });
  await until(() => well.received().equals(Buffer.concat([prefix, message(Buffer.from('{}'))])));
});

test('[MUST] a subscriber that does not read holds up the others for no longer than a moment, and is cut off', async (t) => {
  const one = await publisher(t);
  const lazy = await peer(t, one, Buffer.concat([SUB_GREETING, readyAndSubscribe()]));
  lazy.socket.pause();
  const well = await peer(t, one, Buffer.concat([SUB_GREETING, readyAndSubscribe()]));
  await until(() => one.subscribers() === 2);
  const body = 'x'.repeat(512 * 1024);
  const startedAt = performance.now();
  for (let n = 0; n < 30 && one.subscribers() === 2; n++) await one.publish({ body });
  assert.equal(one.subscribers(), 1);
  assert.ok(performance.now() - startedAt < 15_000);
  const before = well.received().length;
  await one.publish({ body: '{}' });
  await until(() => well.received().length > before);
});
