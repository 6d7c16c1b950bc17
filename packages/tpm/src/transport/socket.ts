import { connect, type Socket } from 'node:net';
import { TransportError } from './transport.ts';

export type SocketAddress = { readonly host: string; readonly port: number } | { readonly path: string };

/** `HOST:PORT`, or the path. */
export const addressText = (address: SocketAddress): string =>
  'path' in address ? address.path : `${address.host}:${address.port}`;

/** A connection on which one side asks and the other answers, one question at a time. */
export type AskingSocket = {
  /** Sends `request` and collects bytes until `complete` finds a whole answer at their beginning and tells its size. */
  readonly ask: (
    request: Buffer,
    complete: (received: Buffer) => number | undefined,
    timeoutMs?: number,
  ) => Promise<Buffer>;
  readonly close: () => Promise<void>;
};

type Waiting = {
  readonly complete: (received: Buffer) => number | undefined;
  readonly resolve: (answer: Buffer) => void;
  readonly reject: (error: Error) => void;
};

function connected(address: SocketAddress): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = 'path' in address ? connect(address.path) : connect(address.port, address.host);
    socket.setNoDelay(true);
    socket.once('connect', () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
    socket.once('error', (cause) => {
      const advice = 'start it (swtpm socket --tpm2 ...), or correct TCTI';
      const message = `TPM emulator at ${addressText(address)} is not running (${cause.message}): ${advice}`;
      reject(new TransportError('tpm_emulator_unreachable', message, { cause }));
    });
  });
}

/** @throws TransportError if nobody listens at `address`. */
export async function openSocket(address: SocketAddress): Promise<AskingSocket> {
  const socket = await connected(address);
  const text = addressText(address);
  let received: Buffer = Buffer.alloc(0);
  let waiting: Waiting | undefined;
  let broken: TransportError | undefined;

  const fail = (error: TransportError) => {
    broken ??= error;
    waiting?.reject(broken);
    waiting = undefined;
    socket.destroy();
  };
  const lost = (cause?: Error) =>
    new TransportError('tpm_connection_lost', `TPM emulator at ${text} closed the connection: restart it`, { cause });
  socket.on('error', (cause) => fail(lost(cause)));
  socket.on('close', () => fail(lost()));
  socket.on('data', (chunk) => {
    received = Buffer.concat([received, chunk]);
    if (waiting === undefined) return fail(malformed());
    let size: number | undefined;
    try {
      size = waiting.complete(received);
    } catch (error) {
      return fail(error instanceof TransportError ? error : malformed());
    }
    if (size === undefined || received.length < size) return;
    const { resolve } = waiting;
    const answer = received.subarray(0, size);
    waiting = undefined;
    received = received.subarray(size);
    if (received.length > 0) fail(malformed());
    resolve(answer);
  });
  const malformed = () =>
    new TransportError('tpm_response_malformed', `what listens at ${text} does not answer as a TPM emulator does`);

  return {
    ask(request, complete, timeoutMs) {
      return new Promise((resolve, reject) => {
        if (broken !== undefined) return reject(broken);
        const timer =
          timeoutMs === undefined
            ? undefined
            : setTimeout(() => {
                const advice = 'it serves one program at a time, and another one may be connected: stop that one';
                fail(new TransportError('tpm_emulator_busy', `TPM emulator at ${text} does not answer: ${advice}`));
              }, timeoutMs);
        const settle =
          <T>(action: (value: T) => void) =>
          (value: T) => {
            clearTimeout(timer);
            action(value);
          };
        waiting = { complete, resolve: settle(resolve), reject: settle(reject) };
        socket.write(request);
      });
    },
    close: () =>
      new Promise((resolve) => {
        broken ??= new TransportError('tpm_connection_lost', `the connection to ${text} was closed here`);
        if (socket.destroyed) return resolve();
        socket.once('close', () => resolve());
        socket.destroy();
      }),
  };
}
