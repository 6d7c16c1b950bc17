import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { after, test } from 'node:test';
import { startTpmMultiplexer, type TpmMultiplexer } from './tpm-multiplexer.ts';

type FakeSwtpm = { readonly port: number; readonly connections: () => number; readonly largestOverlap: () => number };

const undo: (() => unknown)[] = [];
after(async () => {
  for (const step of undo.toReversed()) await step();
});

const listen = async (server: Server, port: number): Promise<number> => {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  undo.push(() => server.close());
  const address = server.address();
  return address !== null && typeof address === 'object' ? address.port : 0;
};

/** Answers each command with header and its own parameters, after a turn of the event loop, in two pieces. */
async function startFake(): Promise<FakeSwtpm> {
  let connections = 0;
  let underWay = 0;
  let largestOverlap = 0;
  const data = createServer((socket) => {
    connections++;
    socket.on('error', () => undefined);
    socket.on('data', (command) => {
      underWay++;
      largestOverlap = Math.max(largestOverlap, underWay);
      const response = Buffer.from(command);
      response.writeUInt32BE(0, 6);
      setImmediate(() => {
        socket.write(response.subarray(0, 3));
        setImmediate(() => {
          underWay--;
          socket.write(response.subarray(3));
        });
      });
    });
  });
  const control = createServer((socket) => {
    socket.on('error', () => undefined);
    // CMD_GET_CAPABILITY answers result and bits, every other command its result.
    socket.on('data', (command) =>
      socket.write(Buffer.from(command.readUInt32BE(0) === 1 ? '0000000000007fff' : '0000003d', 'hex')),
    );
  });
  for (let tries = 0; ; tries++) {
    const port = await listen(data, 0);
    try {
      await listen(control, port + 1);
      return { port, connections: () => connections, largestOverlap: () => largestOverlap };
    } catch (cause) {
      if (tries === 10) throw cause;
      data.close();
      await once(data, 'close');
    }
  }
}

async function started(): Promise<{ readonly fake: FakeSwtpm; readonly multiplexer: TpmMultiplexer }> {
  const fake = await startFake();
  const multiplexer = await startTpmMultiplexer({ swtpm: { host: '127.0.0.1', port: fake.port } });
  undo.push(multiplexer.close);
  return { fake, multiplexer };
}

async function client(port: number): Promise<Socket> {
  const socket = connect(port, '127.0.0.1');
  await once(socket, 'connect');
  undo.push(() => socket.destroy());
  return socket;
}

/** A command whose parameter tells it from all others. */
const command = (marker: number): Buffer => {
  const bytes = Buffer.from('80010000000e0000017a00000000', 'hex');
  bytes.writeUInt32BE(marker, 10);
  return bytes;
};

async function read(socket: Socket, length: number): Promise<Buffer> {
  let received = Buffer.alloc(0);
  while (received.length < length) {
    const [chunk] = await once(socket, 'data');
    received = Buffer.concat([received, chunk]);
  }
  return received;
}

test('commands of several clients reach the TPM one at a time, and each gets the answers to its own', async () => {
  const { fake, multiplexer } = await started();
  const clients = await Promise.all([1, 2, 3].map(() => client(multiplexer.port)));
  const answers = await Promise.all(
    clients.map(async (socket, index) => {
      const markers = [10, 11, 12].map((n) => n * 100 + index);
      const answer = read(socket, 3 * 14);
      socket.write(Buffer.concat(markers.map(command)));
      const bytes = await answer;
      return { markers, got: [10, 24, 38].map((offset) => bytes.readUInt32BE(offset)) };
    }),
  );
  for (const { markers, got } of answers) assert.deepEqual(got, markers);
  assert.equal(fake.connections(), 1);
  assert.equal(fake.largestOverlap(), 1);
});

test('a command that arrives in pieces is passed on whole', async () => {
  const { multiplexer } = await started();
  const socket = await client(multiplexer.port);
  const answer = read(socket, 14);
  const bytes = command(7);
  for (let at = 0; at < bytes.length; at++) socket.write(bytes.subarray(at, at + 1));
  assert.equal((await answer).readUInt32BE(10), 7);
});

test('a client that leaves while its command is under way does not disturb the next one', async () => {
  const { multiplexer } = await started();
  const leaving = await client(multiplexer.port);
  leaving.write(command(1));
  leaving.destroy();
  const staying = await client(multiplexer.port);
  const answer = read(staying, 14);
  staying.write(command(2));
  assert.equal((await answer).readUInt32BE(10), 2);
});

test('a client that sends an impossible size is disconnected', async () => {
  const { multiplexer } = await started();
  const socket = await client(multiplexer.port);
  socket.write(Buffer.from('8001ffffffff0000017a', 'hex'));
  await once(socket, 'close');
  assert.equal(socket.destroyed, true);
});

test('the control channel carries answers of their own length', async () => {
  const { multiplexer } = await started();
  const socket = await client(multiplexer.port + 1);
  const answer = read(socket, 12);
  socket.write(Buffer.from('0000000500' + '00000001', 'hex')); // CMD_SET_LOCALITY 0, CMD_GET_CAPABILITY
  assert.equal((await answer).toString('hex'), '0000003d' + '0000000000007fff');
});
