import type { AgentId } from '@keylime/core/agent-id';
import type { Kysely, Selectable, Transaction } from 'kysely';
import type { GroupWrite } from '../agent-store.ts';
import type { AttestationsTable, VerifierTables } from '../tables.ts';
import type { Attestation, Collected, Conclusion, FailureReason } from './attestation.ts';

/** What begins an attestation. */
export type NewAttestation = Pick<
  Attestation,
  'agentId' | 'verifierId' | 'chosen' | 'offered' | 'capabilitiesAtMs' | 'challengeExpiresAtMs'
>;

export type ReceivedEvidence = {
  readonly atMs: number;
  readonly digest: string;
  readonly collected: Collected;
  /** The evidence as it is judged. */
  readonly body: Buffer;
};

/** Attestations of the agents of all verifiers that share the database: whichever an agent reaches, takes them. */
export type AttestationStore = {
  readonly latest: (id: AgentId) => Promise<Attestation | undefined>;
  readonly find: (id: AgentId, number: number) => Promise<Attestation | undefined>;
  /** The newest first, those with a number below `before`. */
  readonly page: (id: AgentId, before: number | undefined, limit: number) => Promise<readonly Attestation[]>;
  /**
   * Begins the attestation after `latest`, or in place of it where its evidence has not come; `undefined` if another began
   * meanwhile, or the agent is not enrolled any more.
   */
  readonly open: (attestation: NewAttestation, latest: Attestation | undefined) => Promise<Attestation | undefined>;
  /** [MUST] Takes evidence once for each challenge, in its time; tells whether it did. */
  readonly submit: (attestation: Attestation, evidence: ReceivedEvidence) => Promise<boolean>;
  readonly evidence: (attestation: Attestation) => Promise<Buffer | undefined>;
  /** Agents of this verifier with evidence that waits for its verdict. */
  readonly unjudged: (verifierId: string) => Promise<readonly AgentId[]>;
  /** Has judged the entries before `judgedTo`, and leaves the rest to another round; for the transaction that stores the progress. */
  readonly goOn: (trx: Transaction<VerifierTables>, attestation: Attestation, judgedTo: number) => Promise<void>;
  /** Ends the attestation, and deletes what need not be kept; for the transaction that stores the verdict. */
  readonly conclude: (
    trx: Transaction<VerifierTables>,
    attestation: Attestation,
    conclusion: Conclusion,
  ) => Promise<void>;
  /** Deletes what failed, or never got evidence, before `beforeMs`, but for the newest of each agent. */
  readonly forget: (verifierId: string, beforeMs: number) => Promise<void>;
};

/** Attestations of an agent that are kept at most. */
export const MOST_KEPT = 100;

export function sqlAttestationStore(db: Kysely<VerifierTables>, write: GroupWrite): AttestationStore {
  const of = (from: Kysely<VerifierTables>, id: AgentId) =>
    from.selectFrom('attestations').selectAll().where('agent_id', '=', id).orderBy('number', 'desc');
  const first = async (query: ReturnType<typeof of>) => {
    const row = await query.limit(1).executeTakeFirst();
    return row && storedAttestation(row);
  };

  return {
    latest: (id) => first(of(db, id)),
    find: (id, number) => first(of(db, id).where('number', '=', number)),
    async page(id, before, limit) {
      const query = of(db, id).$if(before !== undefined, (some) => some.where('number', '<', before ?? 0));
      return (await query.limit(limit).execute()).map(storedAttestation);
    },
    open: (attestation, latest) =>
      write(async (trx) => {
        const { agentId, verifierId, chosen, offered, capabilitiesAtMs, challengeExpiresAtMs } = attestation;
        const enrolled = await trx
          .selectFrom('agents')
          .select('agent_id')
          .where('agent_id', '=', agentId)
          .executeTakeFirst();
        const newest = await of(trx, agentId).select('number').limit(1).executeTakeFirst();
        if (enrolled === undefined || newest?.number !== latest?.number) return undefined;
        const number = (latest?.number ?? -1) + 1;
        const values = {
          number,
          chosen,
          offered,
          capabilities_at_ms: capabilitiesAtMs,
          challenge_expires_at_ms: challengeExpiresAtMs,
        };
        const changed =
          latest?.stage === 'awaiting_evidence'
            ? (
                await trx
                  .updateTable('attestations')
                  .set(values)
                  .where('agent_id', '=', agentId)
                  .where('number', '=', latest.number)
                  .where('stage', '=', 'awaiting_evidence')
                  .executeTakeFirst()
              ).numUpdatedRows
            : (
                await trx
                  .insertInto('attestations')
                  .values({
                    ...values,
                    agent_id: agentId,
                    verifier_id: verifierId,
                    stage: 'awaiting_evidence',
                    evaluation: 'pending',
                  })
                  .onConflict((conflict) => conflict.doNothing())
                  .executeTakeFirst()
              ).numInsertedOrUpdatedRows;
        return changed === 1n ? first(of(trx, agentId)) : undefined;
      }),
    submit: ({ agentId, number }, { atMs, digest, collected, body }) =>
      write(async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('attestations')
          .set({ stage: 'evaluating_evidence', evidence_at_ms: atMs, evidence_digest: digest, collected })
          .where('agent_id', '=', agentId)
          .where('number', '=', number)
          .where('stage', '=', 'awaiting_evidence')
          .where('challenge_expires_at_ms', '>', atMs)
          .executeTakeFirst();
        if (numUpdatedRows !== 1n) return false;
        await trx.insertInto('attestation_evidence').values({ agent_id: agentId, number, body }).execute();
        return true;
      }),
    async evidence({ agentId, number }) {
      const row = await db
        .selectFrom('attestation_evidence')
        .select('body')
        .where('agent_id', '=', agentId)
        .where('number', '=', number)
        .executeTakeFirst();
      return row?.body;
    },
    async unjudged(verifierId) {
      const rows = await db
        .selectFrom('attestations')
        .select('agent_id')
        .where('verifier_id', '=', verifierId)
        .where('stage', '=', 'evaluating_evidence')
        .execute();
      return rows.map((row) => row.agent_id as AgentId);
    },
    async goOn(trx, { agentId, number, collected }, judgedTo) {
      await trx
        .updateTable('attestations')
        .set({ collected: collected && { ...collected, imaLogJudgedTo: judgedTo } })
        .where('agent_id', '=', agentId)
        .where('number', '=', number)
        .execute();
    },
    async conclude(trx, { agentId, number }, { evaluation, completedAtMs, failureReason, failures, resetCount }) {
      await trx
        .updateTable('attestations')
        .set({
          stage: 'verification_complete',
          evaluation,
          completed_at_ms: completedAtMs,
          failure_reason: failureReason ?? null,
          failures,
          reset_count: resetCount ?? null,
        })
        .where('agent_id', '=', agentId)
        .where('number', '=', number)
        .execute();
      await trx
        .deleteFrom('attestation_evidence')
        .where('agent_id', '=', agentId)
        .where('number', '<=', number)
        .execute();
      const older = trx.deleteFrom('attestations').where('agent_id', '=', agentId);
      await older.where('number', '<=', number - MOST_KEPT).execute();
      if (evaluation !== 'pass' || resetCount === undefined) return;
      // Of the attestations of this boot that passed, the first one and this one are kept.
      const passed = trx
        .selectFrom('attestations')
        .where('agent_id', '=', agentId)
        .where('reset_count', '=', resetCount)
        .where('evaluation', '=', 'pass');
      const start = await passed.select(({ fn }) => fn.min('number').as('number')).executeTakeFirst();
      await older
        .where('reset_count', '=', resetCount)
        .where('evaluation', '=', 'pass')
        .where('number', '>', start?.number ?? number)
        .where('number', '<', number)
        .execute();
    },
    forget: (verifierId, beforeMs) =>
      write(async (trx) => {
        await trx
          .deleteFrom('attestations')
          .where('verifier_id', '=', verifierId)
          .where('capabilities_at_ms', '<', beforeMs)
          .where('stage', '=', 'verification_complete')
          .where('evaluation', '=', 'fail')
          .where(({ eb, selectFrom, ref }) =>
            eb(
              'number',
              '<',
              selectFrom('attestations as newer')
                .select(({ fn }) => fn.max('newer.number').as('number'))
                .where('newer.agent_id', '=', ref('attestations.agent_id')),
            ),
          )
          .execute();
      }),
  };
}

function storedAttestation(row: Selectable<AttestationsTable>): Attestation {
  return {
    agentId: row.agent_id as AgentId,
    number: row.number,
    verifierId: row.verifier_id,
    stage: row.stage,
    evaluation: row.evaluation,
    chosen: row.chosen,
    offered: row.offered,
    capabilitiesAtMs: row.capabilities_at_ms,
    challengeExpiresAtMs: row.challenge_expires_at_ms,
    evidenceAtMs: row.evidence_at_ms ?? undefined,
    evidenceDigest: row.evidence_digest ?? undefined,
    collected: row.collected ?? undefined,
    completedAtMs: row.completed_at_ms ?? undefined,
    failureReason: (row.failure_reason ?? undefined) as FailureReason | undefined,
    failures: row.failures ?? [],
  };
}
