import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { startSwtpm } from '@keylime/software-tpm/swtpm';
import { vendorString } from '../capabilities.ts';
import { GetRandom } from '../commands.ts';
import { openTransport } from '../tcti.ts';
import { openTpm } from '../tpm.ts';
import { deviceOpenError, openDevice } from './device.ts';
import { openSwtpm } from './swtpm.ts';

async function listen(t: TestContext, onConnection: (socket: Socket) => void, port = 0): Promise<number> {
  const sockets: Socket[] = [];
  const server: Server = createServer((socket) => {
    sockets.push(socket);
    socket.on('error', () => {});
    onConnection(socket);
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const address = server.address();
  assert(typeof address === 'object' && address !== null);
  return address.port;
}

/** Two servers at neighbouring ports; the first of them. */
async function listenPair(t: TestContext, first: (socket: Socket) => void, second: (socket: Socket) => void) {
  for (;;) {
    const port = await listen(t, first);
    const next = await listen(t, second, port + 1).catch(() => undefined); // taken: try another pair
    if (next !== undefined) return port;
  }
}

const response = (code: number, body = '') => {
  const bytes = Buffer.from(`8001${'00'.repeat(8)}${body}`, 'hex');
  bytes.writeUInt32BE(bytes.length, 2);
  bytes.writeUInt32BE(code, 6);
  return bytes;
};
const SUCCESS = response(0);
const random4 = response(0, '0004deadbeef');
const getRandom = { parameters: { bytesRequested: 4 } };

test('an emulator over TCP and over a Unix socket is initialised through its control channel', async (t) => {
  for (const socket of ['tcp', 'unix'] as const) {
    const swtpm = await startSwtpm({ certificates: false, needInit: true, socket });
    t.after(() => swtpm.stop());
    const tpm = await openTpm({ transport: await openTransport(swtpm.tcti) });
    assert.match(await vendorString(tpm), /SW/);
    await tpm.close();
    const again = await openTpm({ transport: await openTransport(swtpm.tcti) });
    assert.equal((await again.run(GetRandom, getRandom)).randomBytes.length, 4);
    await again.close();
  }
});

test('an emulator that serves somebody else says so', async (t) => {
  const swtpm = await startSwtpm({ certificates: false });
  t.after(() => swtpm.stop());
  const first = await openTpm({ transport: await openTransport(swtpm.tcti) });
  t.after(() => first.close());
  const second = openTpm({ transport: await openTransport(swtpm.tcti), startupTimeoutMs: 200 });
  await assert.rejects(second, { code: 'tpm_emulator_busy', message: /one program at a time/ });
});

test('an emulator that dies breaks the connection, and a new one is needed', async (t) => {
  const swtpm = await startSwtpm({ certificates: false });
  t.after(() => swtpm.stop());
  const tpm = await openTpm({ transport: await openTransport(swtpm.tcti) });
  await swtpm.kill();
  await assert.rejects(tpm.run(GetRandom, getRandom), { code: 'tpm_connection_lost' });
  await assert.rejects(tpm.run(GetRandom, getRandom), { code: 'tpm_connection_lost' });
  await tpm.close();
  await swtpm.restart();
  const again = await openTpm({ transport: await openTransport(swtpm.tcti) });
  assert.equal((await again.run(GetRandom, getRandom)).randomBytes.length, 4);
  await again.close();
});

test('a command that the TPM wants again is sent again, the same bytes, until the time is over', async (t) => {
  const commands: string[] = [];
  const answers = [SUCCESS, response(0x922), response(0x908), response(0x90a), random4];
  const port = await listen(t, (socket) => {
    socket.on('data', (command) => {
      commands.push(command.toString('hex'));
      socket.write(answers.shift() ?? response(0x922));
    });
  });
  const transport = await openSwtpm({ host: '127.0.0.1', port });
  const tpm = await openTpm({ transport, retryMs: 100 });
  t.after(() => tpm.close());
  assert.equal((await tpm.run(GetRandom, getRandom)).randomBytes.toString('hex'), 'deadbeef');
  assert.equal(commands.length, 5);
  assert.equal(new Set(commands.slice(1)).size, 1);
  await assert.rejects(tpm.run(GetRandom, getRandom), { code: 'TPM_RC_RETRY' });
  assert(commands.length > 6);
});

test('a response in pieces is put together', async (t) => {
  const port = await listen(t, (socket) => {
    socket.setNoDelay(true);
    socket.on('data', async () => {
      for (const byte of random4) {
        socket.write(Buffer.of(byte));
        await new Promise(setImmediate);
      }
    });
  });
  const transport = await openSwtpm({ host: '127.0.0.1', port });
  t.after(() => transport.close());
  assert.deepEqual(await transport.transmit(Buffer.from('8001', 'hex')), random4);
});

test('what is no response of a TPM is refused', async (t) => {
  for (const answer of [
    'HTTP/1.1 400 Bad Request\r\n\r\n',
    '\0\0\0\0\0\0\0\0\0\0\0\0',
    `${random4.toString('latin1')}more`,
  ]) {
    const port = await listen(t, (socket) => socket.on('data', () => socket.write(answer, 'latin1')));
    const opening = openTpm({ transport: await openSwtpm({ host: '127.0.0.1', port }) });
    await assert.rejects(opening, (error: Error & { code?: string }) => {
      assert.match(error.code ?? '', /^(tpm_response_malformed|malformed_structure)$/);
      return true;
    });
  }
});

test('the simulator’s frames carry the same commands', async (t) => {
  const swtpm = await startSwtpm({ certificates: false });
  t.after(() => swtpm.stop());
  const behind = await openTransport(swtpm.tcti);
  t.after(() => behind.close());
  const signals: number[] = [];
  const command = (socket: Socket) =>
    socket.on('data', async (frame) => {
      assert.equal(frame.readUInt32BE(0), 8);
      assert.equal(frame[4], 0);
      assert.equal(frame.readUInt32BE(5), frame.length - 9);
      const answer = await behind.transmit(frame.subarray(9));
      const size = Buffer.alloc(4);
      size.writeUInt32BE(answer.length);
      socket.write(Buffer.concat([size, answer, Buffer.alloc(4)]));
    });
  const platform = (socket: Socket) =>
    socket.on('data', (signal) => {
      signals.push(signal.readUInt32BE(0));
      socket.write(Buffer.alloc(4));
    });
  const commandPort = await listenPair(t, command, platform);
  const tpm = await openTpm({ transport: await openTransport(`mssim:host=127.0.0.1,port=${commandPort}`) });
  assert.deepEqual(signals, [1, 11]);
  assert.match(await vendorString(tpm), /SW/);
  await tpm.close();
});

test('a device that is no TPM is refused', async (t) => {
  const transport = await openDevice('/dev/null');
  t.after(() => transport.close());
  await assert.rejects(transport.transmit(Buffer.from('8001', 'hex')), { code: 'tpm_response_malformed' });
  await assert.rejects(openDevice('/'), { code: 'tpm_device_failed' });
});

test('a device that may not be opened, or that another program has, says what to do', () => {
  const error = (code: string) => deviceOpenError('/dev/tpmrm0', Object.assign(new Error(code), { code }));
  assert.equal(error('EACCES').code, 'tpm_device_permission');
  assert.match(error('EACCES').message, /group tss/);
  assert.equal(error('EBUSY').code, 'tpm_device_busy');
  assert.match(error('EBUSY').message, /\/dev\/tpmrm0/);
  assert.equal(error('ENODEV').code, 'tpm_device_missing');
});

test('a TPM that stops answering is given up, and so are the commands behind it', async (t) => {
  let commands = 0;
  // Startup is answered, nothing after it.
  const port = await listen(t, (socket) => socket.on('data', () => commands++ === 0 && socket.write(SUCCESS)));
  const tpm = await openTpm({
    transport: await openTransport(`swtpm:host=127.0.0.1,port=${port}`),
    commandTimeoutMs: 50,
  });
  const both = await Promise.allSettled([tpm.run(GetRandom, getRandom), tpm.run(GetRandom, getRandom)]);
  for (const { status, ...rest } of both) {
    assert.equal(status, 'rejected');
    assert.equal((rest as { reason: { code: string } }).reason.code, 'tpm_emulator_busy');
  }
  await tpm.close();
});
