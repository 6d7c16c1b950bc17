import type { AgentId } from '@keylime/core/agent-id';
import { compileOnce, type Parameter } from '@keylime/service/compile-once';
import type { Kysely, Selectable, Transaction } from 'kysely';
import type { Agent, AgentRecord } from './agent.ts';
import { type NewDelivery, outboxRow } from './notifications/outbox.ts';
import type { Peer } from './notifications/spread.ts';
import { OPERATIONAL_STATES } from './operational-state.ts';
import { removeOwnPolicy } from './policy-store.ts';
import { agentRow, CorruptRowError, type RecordColumns, recordColumns, storedAgent } from './stored-agent.ts';
import type { AgentsTable, VerifierTables } from './tables.ts';

/** Runs a small write in one transaction with others; resolves when it is committed. */
export type GroupWrite = <T>(job: (trx: Transaction<VerifierTables>) => Promise<T>) => Promise<T>;

/** What else a round changes: it must be safe to repeat. */
export type SaveAlong = (trx: Transaction<VerifierTables>) => Promise<void>;

/** The agents of one verifier. */
export type AgentStore = {
  readonly find: (id: AgentId) => Promise<Agent | undefined>;
  /** The agent, whichever verifier of this database attests it. */
  readonly findOfAnyVerifier: (id: AgentId) => Promise<Agent | undefined>;
  readonly list: () => Promise<readonly Agent[]>;
  readonly listIds: () => Promise<readonly AgentId[]>;
  /** Agents whose evidence is overdue, those that wait longest first, at most `limit`. */
  readonly overdue: (nowMs: number, limit: number) => Promise<readonly Agent[]>;
  /** Waits for evidence until `attestByMs` at least, of all agents that it is waited for. */
  readonly waitUntil: (attestByMs: number) => Promise<void>;
  /** At most `limit` agents that listen, in the order of their ids, those behind `after`. */
  readonly peersAfter: (after: string | undefined, limit: number) => Promise<readonly Peer[]>;
  /**
   * Stores what a round made of an agent, with the notifications that it caused, if the agent still is at the revision of
   * `agent`; otherwise somebody else wrote, nothing is stored, and `undefined` comes back. `along` is done in the same
   * transaction.
   */
  readonly saveRound: (
    agent: Agent,
    record: AgentRecord,
    deliveries: readonly NewDelivery[],
    along?: SaveAlong,
  ) => Promise<Agent | undefined>;
  /** Changes an agent's record whatever its revision is, as operators do; `undefined` if there is no such agent. */
  readonly change: (id: AgentId, change: (agent: Agent) => AgentRecord) => Promise<Agent | undefined>;
  /** Has the agent known by another certificate from now on, unless it was enrolled anew meanwhile; tells whether it did. */
  readonly changeCertificate: (agent: Agent, mtlsCert: string) => Promise<boolean>;
  /** Deletes the agent, and its policies if they were its own. Tells whether there was such an agent. */
  readonly remove: (id: AgentId) => Promise<boolean>;
};

/** `onCorrupt` hears of rows that cannot be read; lists go on without them. */
export function sqlAgentStore(
  db: Kysely<VerifierTables>,
  write: GroupWrite,
  verifierId: string,
  onCorrupt: (error: CorruptRowError) => void = () => {},
): AgentStore {
  const mine = (from: Kysely<VerifierTables>) => from.selectFrom('agents').where('verifier_id', '=', verifierId);

  async function findIn(from: Kysely<VerifierTables>, id: AgentId): Promise<Agent | undefined> {
    const row = await mine(from).selectAll().where('agent_id', '=', id).executeTakeFirst();
    return row && storedAgent(row);
  }

  const readable = (rows: readonly Selectable<AgentsTable>[]): readonly Agent[] =>
    rows.flatMap((row) => {
      try {
        return [storedAgent(row)];
      } catch (error) {
        if (!(error instanceof CorruptRowError)) throw error;
        onCorrupt(error);
        return [];
      }
    });

  // The statement of the hot path: built and compiled once, bound to the values of each round.
  const updateRow = compileOnce(
    (value: Parameter<RecordColumns & { revision: number; agent_id: string; read: number }>) =>
      db
        .updateTable('agents')
        .set({
          revision: value('revision'),
          operational_state: value('operational_state'),
          supported_version: value('supported_version'),
          hash_alg: value('hash_alg'),
          enc_alg: value('enc_alg'),
          sign_alg: value('sign_alg'),
          attestation_count: value('attestation_count'),
          last_received_quote: value('last_received_quote'),
          last_successful_attestation: value('last_successful_attestation'),
          severity_level: value('severity_level'),
          last_event_id: value('last_event_id'),
          last_failures: value('last_failures'),
          unreachable_rounds: value('unreachable_rounds'),
          inconclusive_rounds: value('inconclusive_rounds'),
          progress: value('progress'),
          key_share_recipient: value('key_share_recipient'),
          key_share_retries: value('key_share_retries'),
          attest_by_ms: value('attest_by_ms'),
          silent: value('silent'),
        })
        .where('agent_id', '=', value('agent_id'))
        .where('revision', '=', value('read')),
  );

  async function update(
    trx: Transaction<VerifierTables>,
    agent: Agent,
    record: AgentRecord,
  ): Promise<Agent | undefined> {
    const revision = agent.revision + 1;
    const values = { ...recordColumns(record), revision, agent_id: agent.id, read: agent.revision };
    const { numAffectedRows } = await updateRow(trx, values);
    return numAffectedRows === 1n ? { ...agent, ...record, revision } : undefined;
  }

  return {
    find: (id) => findIn(db, id),
    async findOfAnyVerifier(id) {
      const row = await db.selectFrom('agents').selectAll().where('agent_id', '=', id).executeTakeFirst();
      return row && storedAgent(row);
    },
    async overdue(nowMs, limit) {
      const rows = await mine(db)
        .selectAll()
        .where('attest_by_ms', '<', nowMs)
        .orderBy('attest_by_ms')
        .limit(limit)
        .execute();
      return readable(rows);
    },
    async waitUntil(attestByMs) {
      await write((trx) =>
        trx
          .updateTable('agents')
          .set({ attest_by_ms: attestByMs })
          .where('verifier_id', '=', verifierId)
          .where('attest_by_ms', '<', attestByMs)
          .execute(),
      );
    },
    list: async () => readable(await mine(db).selectAll().orderBy('agent_id').execute()),
    listIds: async () =>
      (await mine(db).select('agent_id').orderBy('agent_id').execute()).map((row) => row.agent_id as AgentId),
    async peersAfter(after, limit) {
      const rows = await mine(db)
        .select(['agent_id', 'operational_state', 'unreachable_rounds'])
        .where('mode', '=', 'pull')
        .$if(after !== undefined, (query) => query.where('agent_id', '>', after ?? ''))
        .orderBy('agent_id')
        .limit(limit)
        .execute();
      return rows.map(({ agent_id: id, operational_state: state, unreachable_rounds: rounds }) => ({
        id,
        isReachable: rounds === 0 && state !== OPERATIONAL_STATES.failed,
      }));
    },
    saveRound: (agent, record, deliveries, along) =>
      write(async (trx) => {
        const saved = await update(trx, agent, record);
        if (saved !== undefined) await along?.(trx);
        if (saved !== undefined && deliveries.length > 0) {
          await trx
            .insertInto('outbox')
            .values(deliveries.map((delivery) => outboxRow(delivery, verifierId)))
            .execute();
        }
        return saved;
      }),
    change: (id, change) =>
      write(async (trx) => {
        const agent = await findIn(trx, id);
        return agent && update(trx, agent, change(agent));
      }),
    changeCertificate: (agent, mtlsCert) =>
      write(async (trx) => {
        const found = await findIn(trx, agent.id);
        if (found === undefined || found.akTpm !== agent.akTpm || found.mtlsCert !== agent.mtlsCert) return false;
        const { enrolment } = agentRow({ ...found, mtlsCert });
        const changes = { enrolment, revision: found.revision + 1 };
        await trx.updateTable('agents').set(changes).where('agent_id', '=', agent.id).execute();
        return true;
      }),
    remove: (id) =>
      write(async (trx) => {
        const agent = await findIn(trx, id);
        if (agent === undefined) return false;
        for (const table of ['push_sessions', 'attestation_evidence', 'attestations', 'agents'] as const) {
          await trx.deleteFrom(table).where('agent_id', '=', id).execute();
        }
        if (agent.runtimePolicyName === id) await removeOwnPolicy(trx, 'runtime_policies', id);
        if (agent.mbPolicyName === id) await removeOwnPolicy(trx, 'mb_policies', id);
        return true;
      }),
  };
}

/** Inserts a new agent; the caller has made sure in the same transaction that there is none of that name. */
export async function insertAgent(trx: Transaction<VerifierTables>, agent: Agent): Promise<void> {
  await trx.insertInto('agents').values(agentRow(agent)).execute();
}
