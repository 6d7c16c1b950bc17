import { connect, type Socket } from 'node:net';
import { commandName, greeting, readyAndSubscribe, zmtpReader } from '@keylime/api/zmtp';
import { parseJson } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';
import { receivedMessage } from './revocation-notice.ts';
import type { Revocations } from './revocations.ts';

const MAX_FRAME_BYTES = 256 * 1024;
const RECONNECT_MS = 5_000;
const KEEP_ALIVE_MS = 30_000;
/** The publisher must have answered by then. */
const HANDSHAKE_MS = 10_000;

/**
 * Subscribes to the revocations that the existing verifier publishes over ZeroMQ, for as long as the agent runs: it connects
 * again whenever the connection ends. What it receives takes the same way as a revocation over HTTPS.
 */
export function subscribeToRevocations(options: {
  readonly host: string;
  readonly port: number;
  readonly revocations: Pick<Revocations, 'offer'>;
  readonly log: Log;
  readonly reconnectMs?: number;
}): { readonly close: () => void } {
  const { host, port, revocations, log, reconnectMs = RECONNECT_MS } = options;
  const where = `${host}:${port}`;
  let isClosed = false;
  let isReported = false;
  let socket: Socket;
  let timer: NodeJS.Timeout | undefined;

  function open(): void {
    socket = connect({ host, port });
    socket.setKeepAlive(true, KEEP_ALIVE_MS).setTimeout(HANDSHAKE_MS, () => socket.destroy());
    let problem = 'the connection ended';
    socket.once('error', ({ message }) => {
      problem = message;
    });
    socket.once('close', () => {
      if (isClosed) return;
      if (!isReported)
        log.warn('The publisher of revocations cannot be reached; it is tried again', { where, problem });
      isReported = true;
      timer = setTimeout(open, reconnectMs);
    });
    socket.write(greeting());
    const take = reader({
      subscribe: () => socket.write(readyAndSubscribe()),
      subscribed: () => {
        socket.setTimeout(0);
        isReported = false;
        log.info('Subscribed to revocations over ZeroMQ', { where });
      },
      message: (text) => void offer(text),
    });
    socket.on('data', (chunk) => {
      try {
        take(chunk);
      } catch (cause) {
        socket.destroy(
          new Error(`no ZeroMQ publisher without security: ${cause instanceof Error ? cause.message : cause}`),
        );
      }
    });
  }

  async function offer(text: string): Promise<void> {
    const message = receivedMessage(parseJson(text));
    if (message === undefined) return log.warn('What arrived over ZeroMQ is no revocation', { where });
    if (!(await revocations.offer(message, 'subscription')))
      log.error('A revocation is lost: too many wait', { where });
  }

  open();
  return {
    close() {
      isClosed = true;
      clearTimeout(timer);
      socket.destroy();
    },
  };
}

/** Takes what the publisher sends, in pieces of any size. Throws if it is not ZMTP. */
function reader(events: {
  readonly subscribe: () => void;
  readonly subscribed: () => void;
  readonly message: (text: string) => void;
}): (chunk: Buffer) => void {
  let isReady = false;
  let isPart = false;
  return zmtpReader(MAX_FRAME_BYTES, {
    greeted: events.subscribe,
    frame(frame) {
      if (frame.isCommand) {
        const name = commandName(frame);
        if (name === 'ERROR') throw new Error('it refused the subscription');
        if (name !== 'READY' || isReady) return;
        isReady = true;
        events.subscribed();
      } else {
        // Revocations have one part; what has several is not one.
        if (isReady && !frame.hasMore && !isPart) events.message(frame.body.toString('utf8'));
        isPart = frame.hasMore;
      }
    },
  });
}
