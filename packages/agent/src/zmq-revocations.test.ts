import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { GREETING_BYTES, greeting, readyAndSubscribe } from '@keylime/api/zmtp';
import { openReceiver } from './subscription.fixture.ts';
import { subscribeToRevocations } from './zmq-revocations.ts';

/*
 * Bytes that libzmq 4.3.5 (pyzmq 27.3) sent as PUB to this subscriber: it is 3.1, and falls back to 3.0.
 */
const PUB_GREETING = Buffer.from(`ff00000000000000017f03014e554c4c${'00'.repeat(48)}`, 'hex');
const PUB_READY = Buffer.from('0419055245414459' + '0b536f636b65742d5479706500000003505542', 'hex');

type Publisher = {
  readonly port: number;
  readonly server: Server;
  readonly subscribed: () => Promise<Socket>;
  readonly close: () => void;
};

/** A publisher: `subscribed` resolves with the next connection that has subscribed to everything. */
async function startPublisher(): Promise<Publisher> {
  const waiting: ((socket: Socket) => void)[] = [];
  const sockets = new Set<Socket>();
  const server = createServer(async (socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    let bytes = Buffer.alloc(0);
    socket.write(PUB_GREETING);
    socket.on('data', (chunk) => {
      const had = bytes.length;
      bytes = Buffer.concat([bytes, chunk]);
      if (had < GREETING_BYTES && bytes.length >= GREETING_BYTES) {
        assert.deepEqual(bytes.subarray(0, GREETING_BYTES), greeting());
        socket.write(PUB_READY);
      }
      const all = Buffer.concat([greeting(), readyAndSubscribe()]);
      if (bytes.equals(all)) waiting.shift()?.(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    server,
    subscribed: () => new Promise((resolve) => waiting.push(resolve)),
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const frame = (text: string, flags = 0): Buffer => {
  const body = Buffer.from(text);
  if (body.length < 256) return Buffer.concat([Buffer.from([flags, body.length]), body]);
  const header = Buffer.alloc(9);
  header.writeUInt8(flags | 2, 0);
  header.writeBigUInt64BE(BigInt(body.length), 1);
  return Buffer.concat([header, body]);
};

function subscribe(port: number) {
  const { revocations, log, ...heard } = openReceiver();
  const { close } = subscribeToRevocations({ host: '127.0.0.1', port, revocations, log, reconnectMs: 20 });
  return { ...heard, close };
}

const message = (n: number) => ({ msg: `{"n": ${n}, "text": "${'x'.repeat(n)}"}`, signature: `s${n}` });

test('revocations arrive, short and long, whole and byte by byte', async () => {
  const publisher = await startPublisher();
  const connected = publisher.subscribed();
  const one = subscribe(publisher.port);
  const socket = await connected;
  await one.said(/Subscribed to revocations/);
  socket.write(Buffer.concat([frame(JSON.stringify(message(1))), frame(JSON.stringify(message(1000)))]));
  await one.until(() => one.offered.length === 2);
  for (const byte of frame(JSON.stringify(message(2)))) socket.write(Buffer.from([byte]));
  await one.until(() => one.offered.length === 3);
  assert.deepEqual(one.offered, [message(1), message(1000), message(2)]);
  one.close();
  publisher.close();
});

test('what is no revocation, has several parts, or is a command is left out', async () => {
  const publisher = await startPublisher();
  const connected = publisher.subscribed();
  const one = subscribe(publisher.port);
  const socket = await connected;
  socket.write(frame('{"msg": 1}'));
  socket.write(Buffer.concat([frame(JSON.stringify(message(1)), 1), frame(JSON.stringify(message(2)))]));
  socket.write(frame('\x04PING\0\0', 4));
  socket.write(frame(JSON.stringify(message(3))));
  await one.said(/What arrived over ZeroMQ is no revocation/);
  await one.until(() => one.offered.length > 0);
  assert.deepEqual(one.offered, [message(3)]);
  one.close();
  publisher.close();
});

test('[MUST] a frame without end, and another protocol, end the connection, and it is tried again', async () => {
  const publisher = await startPublisher();
  const first = publisher.subscribed();
  const one = subscribe(publisher.port);
  const second = publisher.subscribed();
  (await first).write(Buffer.from('02ffffffffffffff00', 'hex'));
  await one.said(/problem="no ZeroMQ publisher without security: a frame of \d+ bytes/);
  (await second).write(frame(JSON.stringify(message(1))));
  await one.until(() => one.offered.length === 1);
  one.close();
  publisher.close();

  const http = createServer((socket) =>
    socket.on('error', () => {}).end(`HTTP/1.1 400 Bad Request\r\n${'x'.repeat(64)}`),
  );
  http.listen(0, '127.0.0.1');
  await once(http, 'listening');
  const other = subscribe((http.address() as AddressInfo).port);
  await other.said(/another protocol/);
  other.close();
  http.close();
});

test('a publisher that goes away and comes back is subscribed to again', async () => {
  const publisher = await startPublisher();
  const first = publisher.subscribed();
  const one = subscribe(publisher.port);
  const second = publisher.subscribed();
  (await first).destroy();
  (await second).write(frame(JSON.stringify(message(1))));
  await one.until(() => one.offered.length === 1);
  one.close();
  publisher.close();
});
