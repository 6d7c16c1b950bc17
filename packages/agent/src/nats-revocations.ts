import { setTimeout as sleep } from 'node:timers/promises';
import { isJsonObject, parseJson } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';
import { connectNats, type NatsSettings } from '@keylime/service/nats-connection';
import {
  AckPolicy,
  type ConsumerMessages,
  DeliverPolicy,
  JetStreamApiError,
  type JsMsg,
  jetstream,
  jetstreamManager,
} from '@nats-io/jetstream';
import { type ReceivedMessage, receivedMessage } from './revocation-notice.ts';
import type { Revocations } from './revocations.ts';

export type NatsSubscription = {
  /** Asked at each connection. */
  readonly connection: () => Promise<NatsSettings>;
  readonly stream: string;
  /** Notifications are on `SUBJECT.>`. */
  readonly subject: string;
  readonly agentId: string;
};

const RECONNECT_MS = 5_000;
/** A message that the queue has no place for comes again after this time. */
const FULL_QUEUE_MS = 10_000;
const MS_TO_NS = 1e6;
/** Not acknowledged by then, a message comes again. */
const ACKNOWLEDGE_MS = 30_000;
/** The server forgets an agent that was away for longer. */
const FORGET_MS = 30 * 86_400_000;
/** Clocks of agent and server may differ by so much. */
const CLOCK_DIFFERENCE_MS = 60_000;
/** A consumer's name has no dots, and servers of old stumble over a percent sign in it; an id has no `=`. */
const consumerName = (agentId: string): string => `keylime_agent_${agentId.replaceAll('.', '=2E')}`;

/**
 * Takes revocations from NATS JetStream, as CloudEvents, for as long as the agent runs: the server keeps for it what came
 * while it was away. A message is acknowledged when it waits on disk, and takes the same way as one over HTTPS. Whoever may
 * publish there can send messages: they count only with their signature.
 */
export function consumeRevocations(
  subscription: NatsSubscription,
  revocations: Pick<Revocations, 'offer'>,
  log: Log,
  { reconnectMs = RECONNECT_MS, fullQueueMs = FULL_QUEUE_MS } = {},
): { readonly close: () => Promise<void> } {
  const since = new Date(Date.now() - CLOCK_DIFFERENCE_MS);
  const closing = new AbortController();
  let messages: ConsumerMessages | undefined;
  let isReported = false;

  async function consume(): Promise<void> {
    const nats = await connectNats(await subscription.connection());
    try {
      const name = await ensureConsumer(nats, subscription, since);
      const consumer = await jetstream(nats).consumers.get(subscription.stream, name);
      messages = await consumer.consume({ max_messages: 10 });
      if (closing.signal.aborted) return;
      log.info('Taking revocations from NATS', { stream: subscription.stream, consumer: name });
      isReported = false;
      void nats.closed().then(() => messages?.close());
      for await (const one of messages) await take(one);
    } finally {
      await nats.close();
    }
  }

  async function take(message: JsMsg): Promise<void> {
    const event = revocationIn(message.string());
    if (event === undefined) {
      log.warn('What arrived over NATS is no revocation', { subject: message.subject });
      return message.ack();
    }
    if (await revocations.offer(event, 'subscription')) return message.ack();
    log.warn('A revocation stays with NATS: too many wait');
    message.nak(fullQueueMs);
  }

  async function run(): Promise<void> {
    while (!closing.signal.aborted) {
      const problem = await consume().catch((error: unknown) => error);
      if (closing.signal.aborted) return;
      if (!isReported) {
        log.warn('NATS gives no revocations; it is tried again', { problem: problem ?? 'the connection ended' });
      }
      isReported = true;
      await sleep(reconnectMs, undefined, { signal: closing.signal }).catch(() => {});
    }
  }

  const running = run();
  return {
    async close() {
      closing.abort();
      await messages?.close();
      await running;
    },
  };
}

/** The consumer of this agent, made if there is none: what was published before the agent first asked is not for it. */
async function ensureConsumer(
  nats: Parameters<typeof jetstreamManager>[0],
  { stream, subject, agentId }: NatsSubscription,
  since: Date,
): Promise<string> {
  const { consumers } = await jetstreamManager(nats);
  const durable_name = consumerName(agentId);
  const NO_SUCH_CONSUMER = 10014;
  try {
    await consumers.info(stream, durable_name);
  } catch (error) {
    if (!(error instanceof JetStreamApiError) || error.code !== NO_SUCH_CONSUMER) throw error;
    await consumers.add(stream, {
      durable_name,
      filter_subject: `${subject}.>`,
      ack_policy: AckPolicy.Explicit,
      ack_wait: ACKNOWLEDGE_MS * MS_TO_NS,
      // One after the other: what is turned away is not overtaken.
      max_ack_pending: 1,
      deliver_policy: DeliverPolicy.StartTime,
      opt_start_time: since.toISOString(),
      inactive_threshold: FORGET_MS * MS_TO_NS,
    });
  }
  return durable_name;
}

/** What a CloudEvent 1.0 in structured JSON carries; its attributes are not signed and do not count. */
function revocationIn(text: string): ReceivedMessage | undefined {
  const event = parseJson(text);
  return isJsonObject(event) && event.specversion === '1.0' ? receivedMessage(event.data) : undefined;
}
