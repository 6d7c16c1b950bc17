import path from 'node:path';
import { getCACertificates } from 'node:tls';
import { caOptionsOf } from '@keylime/pki/ca-options';
import { serviceCaPassword } from '@keylime/service/ca-password';
import type { CaConfig, VerifierConfig } from '@keylime/service/config';
import { openServerClient } from '@keylime/service/http-client';
import type { Log } from '@keylime/service/log';
import type { NatsSettings } from '@keylime/service/nats-connection';
import { readNatsLogin } from '@keylime/service/nats-login';
import { replaceableClient } from '@keylime/service/replaceable-client';
import type { Kysely } from 'kysely';
import type { GroupWrite } from '../agent-store.ts';
import type { Clock } from '../clock.ts';
import { settledWithin } from '../settled-within.ts';
import type { VerifierTables } from '../tables.ts';
import type { TlsMaterial } from '../tls-material.ts';
import { deliverToAgent, type PostToAgent } from './agent-channel.ts';
import { crlChannel } from './crl-channel.ts';
import { type DeliveryCounts, deliveryCounts } from './delivery-counts.ts';
import { openNatsChannel } from './nats-channel.ts';
import { type Deliver, type Notifier, openNotifier } from './notifier.ts';
import { type Channel, type Lane, LONGEST_WAIT_MS, sqlOutbox, sqlSpreadStore } from './outbox.ts';
import { type SpreadParts, spreadToPeers } from './spread.ts';
import { deliverToWebhook, type Post } from './webhook-channel.ts';
import { openPublisher } from './zeromq-channel.ts';

/** All channels that are enabled, each at its own pace. */
export type Notifications = {
  readonly channels: readonly Channel[];
  readonly counts: DeliveryCounts;
  /** Something was put into the outbox. */
  readonly wake: () => void;
  readonly close: () => Promise<void>;
};

export type NotificationsParts = {
  readonly config: VerifierConfig;
  readonly ca: CaConfig;
  readonly material: TlsMaterial;
  /** Called with certificates that have taken the place of `material`. */
  readonly usesOfTls: ((fresh: TlsMaterial) => void)[];
  readonly db: Kysely<VerifierTables>;
  readonly write: GroupWrite;
  readonly postToAgent: PostToAgent;
  readonly peersAfter: SpreadParts['peersAfter'];
  readonly log: Log;
  readonly clock: Clock;
};

/** A way to deliver, and how to end it. */
type Way = { readonly deliver: Deliver; readonly close?: () => Promise<unknown> };

/** At the longest wait 10,080 attempts take a week. */
const PACE = { firstWaitMs: 1000, maxWaitMs: LONGEST_WAIT_MS, giveUpAfterAttempts: 10_080 };
const CONCURRENCY: { readonly [channel in Channel]: number } = { agent: 4, crl: 1, nats: 16, webhook: 16, zeromq: 16 };
const PEER_CONCURRENCY = 128;

/** Opens the channels that `[revocations]` enables. @throws what any of them cannot do, in words */
export async function openNotifications(parts: NotificationsParts): Promise<Notifications> {
  const { config, db, write, log, clock } = parts;
  const verifierId = config.uuid;
  const { enabled_revocation_notifications: enabled, revoke_certificates: revokes } = config.revocations;
  const channels = [...new Set(revokes === 'auto' ? [...enabled, 'crl'] : enabled)] as Channel[];
  const counts = deliveryCounts(new Date(clock.now()));
  const notifiers: Notifier[] = [];
  const closers: (() => Promise<unknown>)[] = [];
  const wake = () => {
    for (const notifier of notifiers) notifier.wake();
  };

  function serve(lane: Lane, { deliver, close }: Way, concurrency: number): void {
    const outbox = sqlOutbox(db, write, verifierId, lane);
    notifiers.push(openNotifier(outbox, deliver, { concurrency, ...PACE }, clock, reports(lane, counts, log)));
    if (close !== undefined) closers.push(close);
  }

  try {
    for (const channel of channels) {
      serve({ channel, to: 'receiver' }, await openWay(channel, parts, counts, wake), CONCURRENCY[channel]);
    }
  } catch (error) {
    for (const close of closers) await close();
    throw error;
  }
  if (channels.includes('agent')) {
    const deliver: Deliver = (delivery) => deliverToAgent(parts.postToAgent, delivery.target ?? '', delivery);
    serve({ channel: 'agent', to: 'peer' }, { deliver }, PEER_CONCURRENCY);
  }
  return {
    channels,
    counts,
    wake,
    async close() {
      const closed = Promise.all(notifiers.map((notifier) => notifier.close()));
      await settledWithin(closed, config.shutdown_drain_timeout * 1000);
      // Ends what a receiver has not answered yet; it stays in the outbox.
      for (const close of closers) await close();
      await closed;
    },
  };
}

async function openWay(
  channel: Channel,
  parts: NotificationsParts,
  counts: DeliveryCounts,
  wake: () => void,
): Promise<Way> {
  const { config, ca, log } = parts;
  const { revocations, workDir } = config;
  switch (channel) {
    case 'agent': {
      const store = sqlSpreadStore(parts.db, parts.write, config.uuid);
      const spread: SpreadParts = {
        peersAfter: parts.peersAfter,
        store,
        async offer(peerId, delivery) {
          try {
            await deliverToAgent(parts.postToAgent, peerId, delivery);
            counts.add('agent', 'delivered');
          } catch (error) {
            counts.add('agent', 'failed');
            throw error;
          }
        },
      };
      // Those who missed it have rows of their own now.
      return { deliver: (delivery) => spreadToPeers(delivery, spread).finally(wake) };
    }
    case 'crl': {
      const dir = path.resolve(workDir, revocations.crl_dir);
      const use = revocations.enabled_revocation_notifications.includes('crl') ? 'required' : 'if_present';
      const settings = { dir, use, password: () => serviceCaPassword(ca), options: caOptionsOf(ca) } as const;
      return { deliver: crlChannel(settings, log) };
    }
    case 'nats':
      return openNatsChannel({
        connection: natsConnection(parts),
        subject: revocations.nats_subject,
        stream: revocations.nats_stream,
        verifierId: config.uuid,
      });
    case 'webhook':
      return openWebhook(new URL(revocations.webhook_url), parts);
    case 'zeromq': {
      const publisher = await openPublisher({ host: revocations.zmq_ip, port: revocations.zmq_port });
      log.info('Publishing revocations over ZeroMQ', { tcp: `${revocations.zmq_ip}:${publisher.port}` });
      return { deliver: publisher.publish, close: publisher.close };
    }
  }
}

function openWebhook(url: URL, { config, material, usesOfTls, log }: NotificationsParts): Way {
  const connect = (tls: TlsMaterial) =>
    openServerClient({
      baseUrl: url.origin,
      // Receivers are often public services: here, and only here, the operating system's CAs count too.
      caPems: [...tls.trustedServerCaPems, ...getCACertificates('system')],
      clientCertificate: tls.client,
      timeoutMs: config.request_timeout * 1000,
      maxResponseBytes: 1024 * 1024,
    });
  const client = replaceableClient(connect(material));
  usesOfTls.push((fresh) => client.replace(connect(fresh)));
  const post: Post = async (json, headers) => {
    const { code } = await client.request({ method: 'POST', path: `${url.pathname}${url.search}`, headers, json });
    return code;
  };
  return {
    deliver(delivery) {
      // [compat] Suites of the field look for this text. The path is left out: some receivers have their token there.
      log.info(`Sending revocation event via webhook to ${url.origin} ...`, { agent: delivery.agentId });
      return deliverToWebhook(post, delivery);
    },
    close: () => client.close(),
  };
}

function natsConnection({ config, material, usesOfTls }: NotificationsParts): () => Promise<NatsSettings> {
  const { revocations, workDir } = config;
  const login = {
    credentialsFile:
      revocations.nats_credentials === '' ? undefined : path.resolve(workDir, revocations.nats_credentials),
    user: revocations.nats_user,
    password: revocations.nats_password,
    token: revocations.nats_token,
  };
  let current = material;
  usesOfTls.push((fresh) => {
    current = fresh;
  });
  return async () => ({
    servers: revocations.nats_url,
    name: `keylime verifier ${config.uuid}`,
    login: await readNatsLogin(login),
    tls: { trustedCas: current.trustedServerCaPems, certificate: current.client },
  });
}

const reports = (lane: Lane, counts: DeliveryCounts, log: Log): Parameters<typeof openNotifier>[4] => ({
  delivered: ({ agentId, channel, target, attempts }) => {
    // What is spread over all peers is counted for each of them.
    if (lane.channel !== 'agent' || lane.to === 'peer') counts.add(channel, 'delivered');
    const to = target && { to: target };
    log.info('Notification delivered', { agent: agentId, channel, ...to, attempts: attempts + 1 });
  },
  failed: ({ agentId, channel, target }, error, nextAttemptAtMs) => {
    counts.add(channel, 'failed');
    const fields = { agent: agentId, channel, ...(target && { to: target }), error };
    if (nextAttemptAtMs === undefined) log.error('Notification given up: it is kept and can be sent again', fields);
    else {
      const at = new Date(nextAttemptAtMs).toISOString();
      log.warn('Notification not delivered, it will be tried again', { ...fields, at });
    }
  },
  fault: (error) => log.error('The outbox cannot be used; it is tried again', { error }),
});
