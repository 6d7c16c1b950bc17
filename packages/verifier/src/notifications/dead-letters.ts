import type { Kysely } from 'kysely';
import type { GroupWrite } from '../agent-store.ts';
import type { VerifierTables } from '../tables.ts';

/** A notification that was given up. */
export type DeadLetter = {
  /** What `replay` and `discard` know it by. */
  readonly id: number;
  readonly notificationId: string;
  /** The machine that was to be reported. */
  readonly agentId: string;
  readonly channel: string;
  /** The peer that was to be told, on the channel `agent`. */
  readonly target: string | undefined;
  readonly createdAtMs: number;
  readonly attempts: number;
  readonly error: string | undefined;
};

/** What waits on one channel. */
export type Waiting = { readonly channel: string; readonly count: number; readonly oldestAtMs: number };

/** The outbox as its operators see it. */
export type DeadLetters = {
  readonly waiting: () => Promise<readonly Waiting[]>;
  /** How many there are, on the channels where there are any. */
  readonly count: () => Promise<readonly { readonly channel: string; readonly count: number }[]>;
  /** The oldest ones with ids above `after`. */
  readonly list: (after: number, limit: number) => Promise<readonly DeadLetter[]>;
  /** Has them, or all, tried again from now on, as if they were new; tells how many there were. */
  readonly replay: (ids: readonly number[] | 'all', nowMs: number) => Promise<number>;
  /** Forgets one; tells whether there was one. */
  readonly discard: (id: number) => Promise<boolean>;
};

export function sqlDeadLetters(db: Kysely<VerifierTables>, write: GroupWrite, verifierId: string): DeadLetters {
  return {
    async waiting() {
      const rows = await db
        .selectFrom('outbox')
        .select(({ fn }) => ['channel', fn.countAll().as('count'), fn.min('created_at_ms').as('oldest')])
        .where('verifier_id', '=', verifierId)
        .where('dead', '=', false)
        .groupBy('channel')
        .orderBy('channel')
        .execute();
      // PostgreSQL gives numbers of aggregates as text.
      return rows.map((row) => ({ channel: row.channel, count: Number(row.count), oldestAtMs: Number(row.oldest) }));
    },
    async count() {
      const rows = await db
        .selectFrom('outbox')
        .select(({ fn }) => ['channel', fn.countAll().as('count')])
        .where('verifier_id', '=', verifierId)
        .where('dead', '=', true)
        .groupBy('channel')
        .execute();
      return rows.map(({ channel, count }) => ({ channel, count: Number(count) }));
    },
    async list(after, limit) {
      const rows = await db
        .selectFrom('outbox')
        .selectAll()
        .where('verifier_id', '=', verifierId)
        .where('dead', '=', true)
        .where('sequence', '>', after)
        .orderBy('sequence')
        .limit(limit)
        .execute();
      return rows.map((row) => ({
        id: row.sequence,
        notificationId: row.notification_id,
        agentId: row.agent_id,
        channel: row.channel,
        target: row.target ?? undefined,
        createdAtMs: row.created_at_ms,
        attempts: row.attempts,
        error: row.last_error ?? undefined,
      }));
    },
    replay: (ids, nowMs) =>
      write(async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('outbox')
          .set({ dead: false, attempts: 0, next_attempt_at_ms: nowMs })
          .where('verifier_id', '=', verifierId)
          .where('dead', '=', true)
          .$if(ids !== 'all', (query) => query.where('sequence', 'in', ids === 'all' ? [] : ids))
          .executeTakeFirstOrThrow();
        return Number(numUpdatedRows);
      }),
    discard: (id) =>
      write(async (trx) => {
        const { numDeletedRows } = await trx
          .deleteFrom('outbox')
          .where('verifier_id', '=', verifierId)
          .where('dead', '=', true)
          .where('sequence', '=', id)
          .executeTakeFirstOrThrow();
        return numDeletedRows > 0n;
      }),
  };
}
