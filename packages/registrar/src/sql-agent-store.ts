import type { AgentId } from '@keylime/core/agent-id';
import { codeOf } from '@keylime/core/coded-error';
import { engineOf } from '@keylime/service/column-types';
import { type WriteGroup, writeGroup } from '@keylime/service/write-group';
import type { Kysely, Selectable, Transaction } from 'kysely';
import type { ActiveAgent, AgentStore, PendingRegistration, Promotion, StagingLimits } from './agent-store.ts';
import { type CompleteRegistration, changesIdentity } from './registration.ts';
import type { RegistrarTables, StoredRegistration } from './schema.ts';

type Trx = Transaction<RegistrarTables>;

/** How many registrations pass between two looks at the number of all that are pending. */
const TOTAL_CHECK_INTERVAL = 100;
/** A record can vanish between two statements; it will not do so again and again. */
const PROMOTION_TRIES = 3;

/** The registrar's store over SQLite or PostgreSQL; several processes may share the database. Writes go in groups. */
export function sqlAgentStore(
  db: Kysely<RegistrarTables>,
  writes: WriteGroup<RegistrarTables> = writeGroup(db, { maxDelayMs: 1 }),
): AgentStore {
  let staged = 0;
  const submit = <T>(write: (trx: Trx) => Promise<T>): Promise<T> => retryingDeadlocks(() => writes.submit(write));
  return {
    async find(agentId) {
      const row = await db
        .selectFrom('registrar_agents')
        .selectAll()
        .where('agent_id', '=', agentId)
        .executeTakeFirst();
      return row && activeAgent(row);
    },

    async pending(agentId, now) {
      const rows = await db
        .selectFrom('registrar_pending')
        .selectAll()
        .where('agent_id', '=', agentId)
        .where('expires_at', '>', now)
        .execute();
      return rows.map(pendingRegistration);
    },

    stage: (pending, limits) => {
      const checkTotal = staged++ % TOTAL_CHECK_INTERVAL === 0;
      return submit((trx) => stage(trx, pending, limits, checkTotal));
    },

    promote: (pending, now) => submit((trx) => promote(trx, pending, now)),

    dropPending: (agentId, source) =>
      submit(async (trx) => {
        const mine = trx.deleteFrom('registrar_pending').where('agent_id', '=', agentId);
        await mine.where('source', '=', source).execute();
      }),

    async list(now) {
      const pending = db.selectFrom('registrar_pending').select('agent_id').where('expires_at', '>', now);
      const rows = await db
        .selectFrom('registrar_agents')
        .select('agent_id')
        .union(pending)
        .orderBy('agent_id')
        .execute();
      return rows.map(({ agent_id }) => agent_id);
    },

    remove: (agentId) =>
      submit(async (trx) => {
        const pending = await trx.deleteFrom('registrar_pending').where('agent_id', '=', agentId).executeTakeFirst();
        const active = await trx.deleteFrom('registrar_agents').where('agent_id', '=', agentId).executeTakeFirst();
        return pending.numDeletedRows + active.numDeletedRows > 0n;
      }),
  };
}

const DEADLOCK = '40P01'; // PostgreSQL, Appendix A
const DEADLOCK_TRIES = 5;

/** Two processes that write about the same agents can each wait for the other; one of them is asked to begin again. */
async function retryingDeadlocks<T>(write: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await write();
    } catch (error) {
      const deadlock = codeOf(error) === DEADLOCK;
      if (!deadlock || attempt === DEADLOCK_TRIES) throw error;
    }
  }
}

async function stage(
  trx: Trx,
  pending: PendingRegistration,
  limits: StagingLimits,
  checkTotal: boolean,
): Promise<void> {
  await trx.deleteFrom('registrar_pending').where('expires_at', '<=', pending.createdAt).execute();
  const others = await trx
    .selectFrom('registrar_pending')
    .select(['key', 'source'])
    .where('agent_id', '=', pending.agentId)
    .orderBy('created_at', 'desc')
    .execute();
  const fromHere = others.filter(({ source }) => source === pending.source).slice(limits.pendingPerAgentAndAddress - 1);
  const left = others.filter((other) => !fromHere.includes(other));
  await drop(trx, [...fromHere, ...left.slice(limits.pendingPerAgent - 1)]);
  if (checkTotal) await dropOverTotal(trx, limits.pendingInAll);
  await trx
    .insertInto('registrar_pending')
    .values({
      key: pending.key,
      agent_id: pending.agentId,
      source: pending.source,
      registration: storedRegistration(pending.registration),
      counts: pending.counts,
      tag_digest: pending.tagDigest,
      created_at: pending.createdAt,
      expires_at: pending.expiresAt,
    })
    .execute();
}

async function drop(trx: Trx, rows: readonly { readonly key: string }[]): Promise<void> {
  if (rows.length === 0) return;
  const keys = rows.map(({ key }) => key);
  await trx.deleteFrom('registrar_pending').where('key', 'in', keys).execute();
}

async function dropOverTotal(trx: Trx, total: number): Promise<void> {
  const { count } = await trx
    .selectFrom('registrar_pending')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .executeTakeFirstOrThrow();
  const over = Number(count) - total;
  if (over < 0) return;
  const oldest = trx
    .selectFrom('registrar_pending')
    .select('key')
    .orderBy('created_at')
    .limit(over + 1);
  await trx.deleteFrom('registrar_pending').where('key', 'in', oldest).execute();
}

async function promote(trx: Trx, pending: PendingRegistration, now: number): Promise<Promotion> {
  // Locks in the order of the keys, so that activations of one agent wait for each other.
  const open = await trx
    .selectFrom('registrar_pending')
    .select('key')
    .where('agent_id', '=', pending.agentId)
    .orderBy('key')
    .$if(engineOf(trx) === 'postgresql', (query) => query.forUpdate())
    .execute();
  if (!open.some(({ key }) => key === pending.key)) return 'gone';
  await drop(trx, [pending]);
  for (let attempt = 0; attempt < PROMOTION_TRIES; attempt++) {
    const promotion = await insertOrReplace(trx, pending, now);
    if (promotion === undefined) continue;
    if (promotion === 'activated') {
      await trx.deleteFrom('registrar_pending').where('agent_id', '=', pending.agentId).execute();
    }
    return promotion;
  }
  throw new Error(`the record of agent ${pending.agentId} was added and removed while it was activated`);
}

/** `undefined` if the record vanished between insertion and reading. */
async function insertOrReplace(trx: Trx, pending: PendingRegistration, now: number): Promise<Promotion | undefined> {
  const { agentId, registration, counts, tagDigest } = pending;
  const values = { registration: storedRegistration(registration), activated_at: now, tag_digest: tagDigest };
  const inserted = await trx
    .insertInto('registrar_agents')
    .values({ agent_id: agentId, regcount: 1, ...values })
    .onConflict((conflict) => conflict.column('agent_id').doNothing())
    .executeTakeFirst();
  if (inserted.numInsertedOrUpdatedRows === 1n) return 'activated';
  const current = await trx
    .selectFrom('registrar_agents')
    .selectAll()
    .where('agent_id', '=', agentId)
    .$if(engineOf(trx) === 'postgresql', (query) => query.forUpdate())
    .executeTakeFirst();
  if (current === undefined) return undefined;
  if (changesIdentity(activeAgent(current).registration, registration)) return 'identity_taken';
  await trx
    .updateTable('registrar_agents')
    .set({ ...values, regcount: current.regcount + (counts ? 1 : 0) })
    .where('agent_id', '=', agentId)
    .execute();
  return 'activated';
}

const activeAgent = (row: Selectable<RegistrarTables['registrar_agents']>): ActiveAgent => ({
  agentId: row.agent_id as AgentId,
  registration: loadedRegistration(row.registration),
  regcount: row.regcount,
  activatedAt: row.activated_at,
  tagDigest: row.tag_digest,
});

const pendingRegistration = (row: Selectable<RegistrarTables['registrar_pending']>): PendingRegistration => ({
  key: row.key,
  agentId: row.agent_id as AgentId,
  source: row.source,
  registration: loadedRegistration(row.registration),
  counts: row.counts,
  tagDigest: row.tag_digest,
  createdAt: row.created_at,
  expiresAt: row.expires_at,
});

const toText = (bytes: Buffer | null): string | null => bytes?.toString('base64') ?? null;
const toBytes = (text: string | null): Buffer | null => (text === null ? null : Buffer.from(text, 'base64'));

const storedRegistration = (registration: CompleteRegistration): StoredRegistration => ({
  ...registration,
  ekPublic: registration.ekPublic.toString('base64'),
  ekCertificate: toText(registration.ekCertificate),
  ekIntermediates: registration.ekIntermediates.map((der) => der.toString('base64')),
  akPublic: registration.akPublic.toString('base64'),
  iakPublic: toText(registration.iakPublic),
  iakCertificate: toText(registration.iakCertificate),
  idevidPublic: toText(registration.idevidPublic),
  idevidCertificate: toText(registration.idevidCertificate),
});

const loadedRegistration = (stored: StoredRegistration): CompleteRegistration => ({
  ...stored,
  ekPublic: Buffer.from(stored.ekPublic, 'base64'),
  ekCertificate: toBytes(stored.ekCertificate),
  ekIntermediates: stored.ekIntermediates.map((text) => Buffer.from(text, 'base64')),
  akPublic: Buffer.from(stored.akPublic, 'base64'),
  iakPublic: toBytes(stored.iakPublic),
  iakCertificate: toBytes(stored.iakCertificate),
  idevidPublic: toBytes(stored.idevidPublic),
  idevidCertificate: toBytes(stored.idevidCertificate),
});
