import type { Kysely } from 'kysely';
import type { GroupWrite } from '../agent-store.ts';
import type { VerifierTables } from '../tables.ts';

/** The ways on which machines are reported. */
export type Channel = 'agent' | 'crl' | 'nats' | 'webhook' | 'zeromq';

/** A notification to be written with the verdict that caused it. */
export type NewDelivery = {
  /** One for an event, whatever channels it takes: receivers tell a repetition by it. */
  readonly notificationId: string;
  /** The machine that is reported. */
  readonly agentId: string;
  readonly channel: Channel;
  /** JSON text. */
  readonly body: string;
  readonly createdAtMs: number;
};

export type Delivery = NewDelivery & {
  readonly sequence: number;
  /** The peer that is told, on the channel `agent`; `undefined` for one that is still to be spread over all peers. */
  readonly target: string | undefined;
  /** The last peer, in the order of ids, up to which it was spread. */
  readonly spreadUpTo: string | undefined;
  readonly attempts: number;
};

/** What one notifier takes care of: a channel, and on `agent` either what is to be spread, or what peers did not take. */
export type Lane = { readonly channel: Channel; readonly to: 'receiver' | 'peer' };

/** No notification waits longer between two attempts. */
export const LONGEST_WAIT_MS = 60_000;

/** Notifications that were decided and not yet delivered. They outlive the process. */
export type Outbox = {
  /**
   * The oldest waiting notification about each agent to each receiver whose time has come: later ones wait behind it.
   * One that would have to wait longer than `LONGEST_WAIT_MS` has seen another clock, which was set back: it is due.
   * `underWay` are left out.
   */
  readonly due: (nowMs: number, limit: number, underWay: readonly number[]) => Promise<readonly Delivery[]>;
  /** When the next one of the others is due, in milliseconds since the epoch; `undefined` if none waits. */
  readonly nextDueMs: (underWay: readonly number[]) => Promise<number | undefined>;
  readonly delivered: (sequence: number) => Promise<void>;
  readonly failed: (sequence: number, error: string, nextAttemptAtMs: number | undefined) => Promise<void>;
};

/** What a notification is left as when it has been offered to some more peers. */
export type Spread = {
  readonly upTo: string;
  /** Peers that did not take it: it is tried again for each of them. */
  readonly missed: readonly { readonly target: string; readonly error: string }[];
};

/** The part of the outbox that a notification to all peers needs. */
export type SpreadStore = {
  /** Peers for which an earlier notification waits: a later one must not overtake it. */
  readonly waitingPeers: () => Promise<ReadonlySet<string>>;
  readonly spread: (delivery: Delivery, spread: Spread) => Promise<void>;
};

const toPeers = { receiver: 'is', peer: 'is not' } as const;

export function sqlOutbox(db: Kysely<VerifierTables>, write: GroupWrite, verifierId: string, lane: Lane): Outbox {
  const heads = () =>
    db
      .selectFrom('outbox')
      .select(({ fn }) => fn.min('sequence').as('sequence'))
      .where('verifier_id', '=', verifierId)
      .where('dead', '=', false)
      .where('channel', '=', lane.channel)
      .where('target', toPeers[lane.to], null)
      .groupBy(['agent_id', 'target']);
  return {
    async due(nowMs, limit, underWay) {
      const rows = await db
        .selectFrom('outbox')
        .selectAll()
        .where('sequence', 'in', heads())
        .where(({ or, eb }) =>
          or([eb('next_attempt_at_ms', '<=', nowMs), eb('next_attempt_at_ms', '>', nowMs + LONGEST_WAIT_MS)]),
        )
        .$if(underWay.length > 0, (query) => query.where('sequence', 'not in', underWay))
        .orderBy('next_attempt_at_ms')
        .orderBy('sequence')
        .limit(limit)
        .execute();
      return rows.map((row) => ({
        sequence: row.sequence,
        notificationId: row.notification_id,
        agentId: row.agent_id,
        channel: row.channel as Channel,
        target: row.target ?? undefined,
        spreadUpTo: row.spread_up_to ?? undefined,
        body: row.body,
        createdAtMs: row.created_at_ms,
        attempts: row.attempts,
      }));
    },
    async nextDueMs(underWay) {
      const row = await db
        .selectFrom('outbox')
        .select(({ fn }) => fn.min('next_attempt_at_ms').as('at'))
        .where('sequence', 'in', heads())
        .$if(underWay.length > 0, (query) => query.where('sequence', 'not in', underWay))
        .executeTakeFirst();
      // An aggregate has no declared type: PostgreSQL gives a bigint as text.
      return row?.at === null || row?.at === undefined ? undefined : Number(row.at);
    },
    delivered: (sequence) =>
      write(async (trx) => {
        await trx.deleteFrom('outbox').where('sequence', '=', sequence).execute();
      }),
    failed: (sequence, error, nextAttemptAtMs) =>
      write(async (trx) => {
        await trx
          .updateTable('outbox')
          .set((row) => ({
            attempts: row('attempts', '+', 1),
            last_error: shortened(error),
            ...(nextAttemptAtMs === undefined ? { dead: true } : { next_attempt_at_ms: nextAttemptAtMs }),
          }))
          .where('sequence', '=', sequence)
          .execute();
      }),
  };
}

export function sqlSpreadStore(db: Kysely<VerifierTables>, write: GroupWrite, verifierId: string): SpreadStore {
  return {
    async waitingPeers() {
      const rows = await db
        .selectFrom('outbox')
        .select('target')
        .distinct()
        .where('verifier_id', '=', verifierId)
        .where('dead', '=', false)
        .where('channel', '=', 'agent')
        .where('target', 'is not', null)
        .execute();
      return new Set(rows.flatMap(({ target }) => target ?? []));
    },
    spread: (delivery, { upTo, missed }) =>
      write(async (trx) => {
        await trx.updateTable('outbox').set({ spread_up_to: upTo }).where('sequence', '=', delivery.sequence).execute();
        for (const { target, error } of missed) {
          const row = { ...outboxRow(delivery, verifierId), target, last_error: shortened(error) };
          await trx.insertInto('outbox').values(row).execute();
        }
      }),
  };
}

/** The row of a notification that nobody tried to deliver yet. */
export const outboxRow = (delivery: NewDelivery, verifierId: string) => ({
  verifier_id: verifierId,
  notification_id: delivery.notificationId,
  agent_id: delivery.agentId,
  channel: delivery.channel,
  target: null as string | null,
  spread_up_to: null as string | null,
  body: delivery.body,
  created_at_ms: delivery.createdAtMs,
  attempts: 0,
  next_attempt_at_ms: delivery.createdAtMs,
  last_error: null as string | null,
  dead: false,
});

const LONGEST_ERROR = 500;
const shortened = (error: string): string => error.slice(0, LONGEST_ERROR);
