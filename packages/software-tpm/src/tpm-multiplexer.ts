import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';

/** A software TPM that several programs use at once: give `host` and `port` to each of them as its `TCTI`. */
export type TpmMultiplexer = {
  readonly host: string;
  /** Data channel; the control channel is `port + 1`, as the `swtpm` TCTI expects. */
  readonly port: number;
  readonly close: () => Promise<void>;
};

type Frame = { readonly request: Buffer; readonly answer: (response: Buffer) => void };
/** Length of the message at the start of `bytes`, or `undefined` while too little has arrived to tell. Throws `RangeError`. */
type Measure = (bytes: Buffer) => number | undefined;

const TPM_HEADER_BYTES = 10;
const TPM_MAX_BYTES = 4096;

// Control channel (swtpm_ioctls(3)): payload bytes of the request after its u32 code, of the answer after its u32 result.
const CONTROL: ReadonlyMap<number, { readonly request: number; readonly answer: number }> = new Map([
  [1, { request: 0, answer: 4 }], // CMD_GET_CAPABILITY
  [2, { request: 4, answer: 0 }], // CMD_INIT
  [3, { request: 0, answer: 0 }], // CMD_SHUTDOWN
  [4, { request: 0, answer: 4 }], // CMD_GET_TPMESTABLISHED
  [5, { request: 1, answer: 0 }], // CMD_SET_LOCALITY
  [9, { request: 0, answer: 0 }], // CMD_CANCEL_TPM_CMD
  [10, { request: 0, answer: 0 }], // CMD_STORE_VOLATILE
  [11, { request: 1, answer: 0 }], // CMD_RESET_TPMESTABLISHED
  [14, { request: 0, answer: 0 }], // CMD_STOP
  [15, { request: 0, answer: 4 }], // CMD_GET_CONFIG
]);

const tpmMessage: Measure = (bytes) => {
  if (bytes.length < 6) return undefined;
  const size = bytes.readUInt32BE(2);
  if (size < TPM_HEADER_BYTES || size > TPM_MAX_BYTES) throw new RangeError(`TPM message of ${size} bytes`);
  return size;
};

const controlRequest: Measure = (bytes) => {
  if (bytes.length < 4) return undefined;
  const code = bytes.readUInt32BE(0);
  const command = CONTROL.get(code);
  if (command === undefined) throw new RangeError(`swtpm control command ${code} is not carried by the multiplexer`);
  return 4 + command.request;
};

const controlAnswer = (request: Buffer): Measure => {
  const payload = CONTROL.get(request.readUInt32BE(0))?.answer ?? 0;
  return (bytes) => (bytes.length < 4 ? undefined : bytes.readUInt32BE(0) === 0 ? 4 + payload : 4);
};

/** Calls `take` with each whole message that arrives on `socket`; a malformed one closes the socket. */
function readMessages(socket: Socket, measure: Measure, take: (message: Buffer) => void): void {
  let pending: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    pending = Buffer.concat([pending, chunk]);
    try {
      for (let size = measure(pending); size !== undefined && pending.length >= size; size = measure(pending)) {
        const message = Buffer.from(pending.subarray(0, size));
        pending = pending.subarray(size);
        take(message);
      }
    } catch (cause) {
      socket.destroy(cause instanceof Error ? cause : undefined);
    }
  });
}

/** One connection to swtpm on which request and response alternate, whoever asks. */
function serialChannel(socket: Socket, answerOf: (request: Buffer) => Measure): (frame: Frame) => void {
  const waiting: Frame[] = [];
  let current: Frame | undefined;
  const next = () => {
    current = waiting.shift();
    if (current) socket.write(current.request);
  };
  readMessages(
    socket,
    (bytes) => (current ? answerOf(current.request)(bytes) : undefined),
    (response) => {
      current?.answer(response);
      next();
    },
  );
  return (frame) => {
    waiting.push(frame);
    if (!current) next();
  };
}

/** Listens on `port` and `port + 1` for the two channels; with 0, on any free pair. */
async function listenOnPair(host: string, port: number, data: Server, control: Server): Promise<number> {
  for (let tries = 0; ; tries++) {
    data.listen(port, host);
    await once(data, 'listening');
    const address = data.address();
    if (address === null || typeof address === 'string') throw new TypeError('the data channel is not a TCP socket');
    try {
      control.listen(address.port + 1, host);
      await once(control, 'listening');
      return address.port;
    } catch (cause) {
      data.close();
      await once(data, 'close');
      if (port !== 0 || tries === 20) throw cause;
    }
  }
}

/**
 * Lets any number of clients use one swtpm, which itself serves a single one: commands are taken
 * whole and passed on one by one, and the control channel likewise. Objects and sessions are the TPM's own, at most three
 * of each in all, and stay when a client goes: the TSS's swtpm TCTI makes a new connection for each command (tpm2-tss
 * 3.2, tcti-swtpm.c), so the end of a connection says nothing. `swtpm` names the data port of a running
 * swtpm whose control port is one higher. Rejects with the socket's error if it is not there; when swtpm ends later,
 * all clients are disconnected.
 */
export async function startTpmMultiplexer(options: {
  readonly swtpm: { readonly host: string; readonly port: number };
  readonly host?: string;
  readonly port?: number;
}): Promise<TpmMultiplexer> {
  const { swtpm, host = '127.0.0.1', port = 0 } = options;
  const upstream = connect(swtpm.port, swtpm.host);
  const upstreamControl = connect(swtpm.port + 1, swtpm.host);
  await Promise.all([once(upstream, 'connect'), once(upstreamControl, 'connect')]);
  const sendCommand = serialChannel(upstream, () => tpmMessage);
  const sendControl = serialChannel(upstreamControl, controlAnswer);

  const clients = new Set<Socket>();
  const serve = (start: (client: Socket) => void) =>
    createServer((client) => {
      clients.add(client);
      client.on('close', () => clients.delete(client));
      client.on('error', () => client.destroy());
      client.setNoDelay();
      start(client);
    });
  const relay = (measure: Measure, send: (frame: Frame) => void) =>
    serve((client) =>
      readMessages(client, measure, (request) =>
        send({ request, answer: (response) => void (client.destroyed || client.write(response)) }),
      ),
    );
  const data = relay(tpmMessage, sendCommand);
  const control = relay(controlRequest, sendControl);
  const dropClients = () => {
    for (const client of clients) client.destroy();
  };
  for (const socket of [upstream, upstreamControl]) {
    socket.on('error', dropClients);
    socket.on('close', dropClients);
  }
  const listening = await listenOnPair(host, port, data, control);
  return {
    host,
    port: listening,
    close: async () => {
      const closed = Promise.all([once(data, 'close'), once(control, 'close')]);
      data.close();
      control.close();
      dropClients();
      await closed;
      upstream.destroy();
      upstreamControl.destroy();
    },
  };
}
