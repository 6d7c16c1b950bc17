import type { Kysely } from 'kysely';
import type { GroupWrite } from './agent-store.ts';
import type { VerifierTables } from './tables.ts';

/** The channels that this version delivers on. */
export type Channel = 'webhook';

/** A notification to be written with the verdict that caused it. */
export type NewDelivery = {
  readonly notificationId: string;
  readonly agentId: string;
  readonly channel: Channel;
  /** JSON text. */
  readonly body: string;
  readonly createdAtMs: number;
};

export type Delivery = NewDelivery & { readonly sequence: number; readonly attempts: number };

/** Notifications that were decided and not yet delivered. They outlive the process. */
export type Outbox = {
  /** The oldest waiting notification of each agent and channel whose time has come: later ones wait behind it. */
  readonly due: (nowMs: number, limit: number) => Promise<readonly Delivery[]>;
  /** When the next one is due, in milliseconds since the epoch; `undefined` if none waits. */
  readonly nextDueMs: () => Promise<number | undefined>;
  readonly delivered: (sequence: number) => Promise<void>;
  readonly failed: (sequence: number, error: string, nextAttemptAtMs: number | undefined) => Promise<void>;
};

export function sqlOutbox(db: Kysely<VerifierTables>, write: GroupWrite, verifierId: string): Outbox {
  const heads = () =>
    db
      .selectFrom('outbox')
      .select(({ fn }) => fn.min('sequence').as('sequence'))
      .where('verifier_id', '=', verifierId)
      .where('dead', '=', false)
      .groupBy(['agent_id', 'channel']);
  return {
    async due(nowMs, limit) {
      const rows = await db
        .selectFrom('outbox')
        .selectAll()
        .where('sequence', 'in', heads())
        .where('next_attempt_at_ms', '<=', nowMs)
        .orderBy('sequence')
        .limit(limit)
        .execute();
      return rows.map((row) => ({
        sequence: row.sequence,
        notificationId: row.notification_id,
        agentId: row.agent_id,
        channel: row.channel as Channel,
        body: row.body,
        createdAtMs: row.created_at_ms,
        attempts: row.attempts,
      }));
    },
    async nextDueMs() {
      const row = await db
        .selectFrom('outbox')
        .select(({ fn }) => fn.min('next_attempt_at_ms').as('at'))
        .where('sequence', 'in', heads())
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
            last_error: error.slice(0, 500),
            ...(nextAttemptAtMs === undefined ? { dead: true } : { next_attempt_at_ms: nextAttemptAtMs }),
          }))
          .where('sequence', '=', sequence)
          .execute();
      }),
  };
}
