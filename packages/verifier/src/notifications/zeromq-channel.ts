import { once } from 'node:events';
import { createServer, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandName, greeting, message, ready, SUBSCRIBE, UNSUBSCRIBE, zmtpReader } from '@keylime/api/zmtp';
import { listenError } from '@keylime/service/http-listen';
import type { Delivery } from './outbox.ts';

/** Publishes notifications to whoever subscribes: existing agents with ZeroMQ, and ours. */
export type Publisher = {
  readonly port: number;
  /** Resolves when the system has taken the message for every subscriber that keeps up; rejects if there is none. */
  readonly publish: (delivery: Pick<Delivery, 'body'>) => Promise<void>;
  readonly subscribers: () => number;
  readonly close: () => Promise<void>;
};

const MAX_SUBSCRIBERS = 10_000;
const MAX_FRAME_BYTES = 1024;
const HANDSHAKE_MS = 10_000;
/** Subscribers of a publisher that was started again come back within this time. */
const SETTLE_MS = 6_000;
/** Waiting for a subscriber beyond this ends the connection: it comes back, or it is gone. */
const MAX_WAITING_BYTES = 1024 * 1024;
const KEEP_ALIVE_MS = 30_000;

type Subscriber = { readonly socket: Socket; topics: readonly Buffer[] };

/**
 * A ZeroMQ publisher (PUB, ZMTP 3, no security) as the existing verifier's broker is one: each notification is one message,
 * the JSON of `{msg, signature}`, without a topic (06 section 4.4 of the reference). A subscriber that is not connected when
 * it is published misses it: that is the channel's nature, use `agent` or `nats` where it must arrive. Only if there is no
 * subscriber at all it is kept for later.
 * @throws ListenError
 */
export async function openPublisher({
  host,
  port,
  settleMs = SETTLE_MS,
}: {
  readonly host: string;
  readonly port: number;
  /** Nothing is published before. */
  readonly settleMs?: number;
}): Promise<Publisher> {
  const subscribers = new Set<Subscriber>();
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, (socket) => {
    sockets.add(socket);
    const subscriber: Subscriber = { socket, topics: [] };
    socket.setTimeout(HANDSHAKE_MS, () => socket.destroy());
    socket.once('close', () => {
      sockets.delete(socket);
      subscribers.delete(subscriber);
    });
    // Whatever was wrong with the connection, it is closed; nobody else is touched.
    socket.once('error', () => socket.destroy());
    socket.write(greeting());
    const take = reader(() => {
      socket.setTimeout(0);
      socket.write(ready('PUB'));
      subscribers.add(subscriber);
    }, subscriber);
    socket.on('data', (chunk) => {
      try {
        take(chunk);
      } catch {
        socket.destroy();
      }
    });
  });
  server.maxConnections = MAX_SUBSCRIBERS;
  server.listen(port, host);
  await once(server, 'listening').catch((cause: unknown) => {
    throw listenError(cause, { host, port });
  });
  const closing = new AbortController();
  const settled = sleep(settleMs, undefined, { signal: closing.signal });
  settled.catch(() => {});
  const address = server.address();
  return {
    port: typeof address === 'object' && address !== null ? address.port : port,
    async publish({ body }) {
      await settled;
      if (subscribers.size === 0) throw new Error('nobody subscribes over ZeroMQ');
      const bytes = Buffer.from(body);
      const frame = message(bytes);
      const writes: Promise<void>[] = [];
      for (const { socket, topics } of subscribers) {
        if (!topics.some((topic) => bytes.subarray(0, topic.length).equals(topic))) continue;
        if (socket.writableLength > MAX_WAITING_BYTES) socket.destroy();
        else writes.push(new Promise((resolve) => socket.write(frame, () => resolve())));
      }
      await Promise.race([Promise.all(writes), sleep(WRITE_MS, undefined, { ref: false })]);
    },
    subscribers: () => subscribers.size,
    async close() {
      closing.abort();
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A subscriber that reads slowly holds up the others for so long at most. */
const WRITE_MS = 1000;

/** Takes what a subscriber sends, in pieces of any size. Throws if it is not ZMTP, or more than a subscriber has to say. */
function reader(subscribes: () => void, subscriber: Subscriber): (chunk: Buffer) => void {
  let isReady = false;
  return zmtpReader(MAX_FRAME_BYTES, {
    greeted: () => {},
    frame(frame) {
      if (isReady) {
        if (!frame.isCommand) subscribe(subscriber, frame.body);
        return;
      }
      if (!frame.isCommand || commandName(frame) !== 'READY') throw new Error('no READY');
      isReady = true;
      subscribes();
    },
  });
}

const MAX_TOPICS = 16;

function subscribe(subscriber: Subscriber, body: Buffer): void {
  const [kind] = body;
  const topic = body.subarray(1);
  if (kind === SUBSCRIBE) {
    if (subscriber.topics.length >= MAX_TOPICS) throw new Error('too many subscriptions');
    subscriber.topics = [...subscriber.topics, topic];
  } else if (kind === UNSUBSCRIBE) subscriber.topics = subscriber.topics.filter((one) => !one.equals(topic));
}
