import { connectNats, type NatsSettings } from '@keylime/service/nats-connection';
import { JetStreamApiError, jetstream, jetstreamManager } from '@nats-io/jetstream';
import { headers, type NatsConnection } from '@nats-io/transport-node';
import { cloudEvent } from './cloud-event.ts';
import type { Delivery } from './outbox.ts';

export type NatsChannelSettings = {
  /** Asked at each connection. */
  readonly connection: () => Promise<NatsSettings>;
  /** Notifications go to `SUBJECT.TYPE`, such as `keylime.revocations.revocation`. */
  readonly subject: string;
  /** The JetStream stream that keeps them; made if there is none of this name. */
  readonly stream: string;
  readonly verifierId: string;
};

export type NatsChannel = {
  /** Resolves when JetStream has stored it. A repetition within the stream's duplicate window is stored once. */
  readonly deliver: (delivery: Delivery) => Promise<void>;
  readonly close: () => Promise<void>;
};

const ANSWER_MS = 5_000;
/** How long JetStream knows a delivery again. */
const DUPLICATE_WINDOW_NS = 10 * 60 * 1e9;
/** How long it keeps a notification for agents that were away. */
const MAX_AGE_NS = 7 * 24 * 3600 * 1e9;

/**
 * Publishes notifications on NATS JetStream as CloudEvents 1.0, structured JSON: at least once, for a stream keeps them for
 * agents that are away. A connection that ended is made again when there is something to say.
 */
export function openNatsChannel(settings: NatsChannelSettings): NatsChannel {
  let connection: Promise<NatsConnection> | undefined;

  function connected(): Promise<NatsConnection> {
    if (connection !== undefined) return connection;
    const made = open(settings);
    const forget = () => {
      if (connection === made) connection = undefined;
    };
    made.then((nats) => nats.closed()).then(forget, forget);
    connection = made;
    return made;
  }

  // If the server is there, the stream is before anybody asks for it; if not, the first delivery tells.
  connected().catch(() => {});
  return {
    async deliver(delivery) {
      const nats = await connected();
      const event = cloudEvent(delivery, settings.verifierId);
      const typed = headers();
      typed.set('Content-Type', 'application/cloudevents+json; charset=UTF-8');
      const type = event.type.slice(event.type.lastIndexOf('.') + 1);
      await jetstream(nats).publish(`${settings.subject}.${type}`, JSON.stringify(event), {
        msgID: delivery.notificationId,
        headers: typed,
        timeout: ANSWER_MS,
        expect: { streamName: settings.stream },
      });
    },
    async close() {
      const nats = await connection?.catch(() => undefined);
      await nats?.close();
    },
  };
}

async function open(settings: NatsChannelSettings): Promise<NatsConnection> {
  const nats = await connectNats(await settings.connection());
  try {
    await ensureStream(nats, settings);
    return nats;
  } catch (error) {
    await nats.close();
    throw error;
  }
}

/** Makes the stream if there is none of this name; one that an operator made is left as it is. */
async function ensureStream(nats: NatsConnection, { stream, subject }: NatsChannelSettings): Promise<void> {
  const { streams } = await jetstreamManager(nats, { timeout: ANSWER_MS });
  const NO_SUCH_STREAM = 10059;
  try {
    await streams.info(stream);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== NO_SUCH_STREAM) throw error;
    await streams.add({
      name: stream,
      subjects: [`${subject}.>`],
      duplicate_window: DUPLICATE_WINDOW_NS,
      max_age: MAX_AGE_NS,
    });
  }
}
