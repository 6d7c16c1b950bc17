import type { AgentId } from '@keylime/core/agent-id';
import type { Kysely, Transaction } from 'kysely';
import type { GroupWrite } from '../agent-store.ts';
import type { VerifierTables } from '../tables.ts';

/** A session that waits for its proof. */
export type PendingSession = {
  readonly id: string;
  /** As it was claimed: nothing is proved, and there may be no such agent. */
  readonly agentId: string;
  readonly challenge: Buffer;
  readonly createdAtMs: number;
  readonly challengeExpiresAtMs: number;
};

export type Session = PendingSession & {
  /** Absent until the agent has proved that its TPM holds the AK. */
  readonly proved:
    | {
        /** SHA-256 of the token, lower-case hex. */
        readonly tokenHash: string;
        readonly tokenExpiresAtMs: number;
        /** Hex of the Name of the AK. [MUST] With another AK the agent is another one. */
        readonly akName: string;
      }
    | undefined;
};

/** Sessions of all verifiers that share the database: one may ask for the proof, another one see it. */
export type SessionStore = {
  readonly add: (session: PendingSession) => Promise<void>;
  readonly find: (sessionId: string) => Promise<Session | undefined>;
  /** Ends a session that waits for its proof; others are left alone. */
  readonly refuse: (sessionId: string) => Promise<void>;
  /**
   * Makes a pending session the agent's only one; tells whether it did: [MUST] a challenge is answered once. Sessions of the
   * agent that wait for their proof are left alone.
   */
  readonly accept: (session: PendingSession, proved: NonNullable<Session['proved']>) => Promise<boolean>;
  /** Makes the agent's token good until then, if it still is now; for the transaction that stores a verdict. */
  readonly extend: (
    trx: Transaction<VerifierTables>,
    agentId: AgentId,
    nowMs: number,
    untilMs: number,
  ) => Promise<void>;
  /** Deletes what nobody can use any more. */
  readonly forgetExpired: (nowMs: number) => Promise<void>;
};

/** An expired token is known as such for a while. */
const KEPT_AFTER_EXPIRY_MS = 3_600_000;

export function sqlSessionStore(db: Kysely<VerifierTables>, write: GroupWrite): SessionStore {
  return {
    async add({ id, agentId, challenge, createdAtMs, challengeExpiresAtMs }) {
      await write((trx) =>
        trx
          .insertInto('push_sessions')
          .values({
            session_id: id,
            agent_id: agentId,
            challenge: challenge.toString('base64'),
            created_at_ms: createdAtMs,
            challenge_expires_at_ms: challengeExpiresAtMs,
          })
          .onConflict((conflict) => conflict.doNothing())
          .execute(),
      );
    },
    async find(sessionId) {
      const row = await db
        .selectFrom('push_sessions')
        .selectAll()
        .where('session_id', '=', sessionId)
        .executeTakeFirst();
      if (row === undefined) return undefined;
      const { token_hash: tokenHash, token_expires_at_ms: tokenExpiresAtMs, ak_name: akName } = row;
      const isProved = tokenHash !== null && tokenExpiresAtMs !== null && akName !== null;
      return {
        id: row.session_id,
        agentId: row.agent_id,
        challenge: Buffer.from(row.challenge, 'base64'),
        createdAtMs: row.created_at_ms,
        challengeExpiresAtMs: row.challenge_expires_at_ms,
        proved: isProved ? { tokenHash, tokenExpiresAtMs, akName } : undefined,
      };
    },
    async refuse(sessionId) {
      await write((trx) =>
        trx.deleteFrom('push_sessions').where('session_id', '=', sessionId).where('token_hash', 'is', null).execute(),
      );
    },
    accept: ({ id, agentId }, { tokenHash, tokenExpiresAtMs, akName }) =>
      write(async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('push_sessions')
          .set({ token_hash: tokenHash, token_expires_at_ms: tokenExpiresAtMs, ak_name: akName })
          .where('session_id', '=', id)
          .where('token_hash', 'is', null)
          .executeTakeFirst();
        if (numUpdatedRows !== 1n) return false;
        await trx
          .deleteFrom('push_sessions')
          .where('agent_id', '=', agentId)
          .where('session_id', '!=', id)
          .where('token_hash', 'is not', null)
          .execute();
        return true;
      }),
    async extend(trx, agentId, nowMs, untilMs) {
      await trx
        .updateTable('push_sessions')
        .set({ token_expires_at_ms: untilMs })
        .where('agent_id', '=', agentId)
        .where('token_hash', 'is not', null)
        .where('token_expires_at_ms', '>=', nowMs)
        .where('token_expires_at_ms', '<', untilMs)
        .execute();
    },
    async forgetExpired(nowMs) {
      await write(async (trx) => {
        const expired = () => trx.deleteFrom('push_sessions').where('challenge_expires_at_ms', '<', nowMs);
        await expired().where('token_hash', 'is', null).execute();
        await expired()
          .where('token_expires_at_ms', '<', nowMs - KEPT_AFTER_EXPIRY_MS)
          .execute();
      });
    },
  };
}
