import type { Kysely, Selectable, Transaction } from 'kysely';
import type { GroupWrite } from './agent-store.ts';
import type { MbPoliciesTable, RuntimePoliciesTable, VerifierTables } from './tables.ts';

/** A runtime policy as it is kept: `text` exactly as uploaded, `checksum` its SHA-256 in hex. */
export type StoredPolicy = Readonly<Selectable<RuntimePoliciesTable>>;

/** A measured-boot reference state as it is kept, which the API calls measured-boot policy. */
export type StoredMbPolicy = Readonly<Selectable<MbPoliciesTable>>;

/** The tables of policies with a name, and the column of an agent that names its own. */
const USED_IN = { runtime_policies: 'runtime_policy_name', mb_policies: 'mb_policy_name' } as const;

export type PolicyTable = keyof typeof USED_IN;
type Row<Table extends PolicyTable> = { runtime_policies: StoredPolicy; mb_policies: StoredMbPolicy }[Table];

/** Policies of one kind, by name. */
export type PolicyStore<Policy = StoredPolicy> = {
  readonly find: (name: string) => Promise<Policy | undefined>;
  readonly listNames: () => Promise<readonly string[]>;
  /** Tells whether the name was free. */
  readonly create: (policy: Policy) => Promise<boolean>;
  /** Tells whether there was such a policy. */
  readonly replace: (policy: Policy) => Promise<boolean>;
  readonly remove: (name: string) => Promise<'removed' | 'unknown' | { readonly usedBy: string }>;
};

export function sqlPolicyStore<Table extends PolicyTable>(
  db: Kysely<VerifierTables>,
  write: GroupWrite,
  of: Table,
): PolicyStore<Row<Table>> {
  const table = oneTable(of);
  return {
    find: (name) => findPolicy(db, of, name),
    listNames: async () =>
      (await db.selectFrom(table).select('name').orderBy('name').execute()).map(({ name }) => name),
    create: (policy) => write((trx) => insertPolicy(trx, of, policy)),
    replace: (policy) =>
      write(async (trx) => {
        const { name, ...content } = asOneRow(policy);
        const { numUpdatedRows } = await trx
          .updateTable(table)
          .set(content)
          .where('name', '=', name)
          .executeTakeFirst();
        return numUpdatedRows === 1n;
      }),
    remove: (name) =>
      write(async (trx) => {
        const user = await trx
          .selectFrom('agents')
          .select('agent_id')
          .where(usedIn(of), '=', name)
          .orderBy('agent_id')
          .executeTakeFirst();
        if (user !== undefined) return { usedBy: user.agent_id };
        const { numDeletedRows } = await trx.deleteFrom(table).where('name', '=', name).executeTakeFirst();
        return numDeletedRows === 1n ? 'removed' : 'unknown';
      }),
  };
}

// The query builder cannot type a query on one of several tables: all are taken for the first.
const oneTable = (table: PolicyTable) => table as 'runtime_policies';
const asOneRow = (row: StoredPolicy | StoredMbPolicy) => row as StoredPolicy;
const usedIn = (table: PolicyTable): (typeof USED_IN)[PolicyTable] => USED_IN[table];

export async function findPolicy<Table extends PolicyTable>(
  db: Kysely<VerifierTables> | Transaction<VerifierTables>,
  of: Table,
  name: string,
): Promise<Row<Table> | undefined> {
  const row = await db.selectFrom(oneTable(of)).selectAll().where('name', '=', name).executeTakeFirst();
  return row as Row<Table> | undefined;
}

/** Tells whether the name was free. */
export async function insertPolicy<Table extends PolicyTable>(
  trx: Transaction<VerifierTables>,
  into: Table,
  policy: Row<Table>,
): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto(oneTable(into))
    .values(asOneRow(policy))
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}

/** Deletes a policy that had the name of an agent, unless another agent uses it: the name was not asked for by anybody. */
export async function removeOwnPolicy(trx: Transaction<VerifierTables>, of: PolicyTable, name: string): Promise<void> {
  await trx
    .deleteFrom(oneTable(of))
    .where('name', '=', name)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('agents').select('agent_id').where(usedIn(of), '=', name))),
    )
    .execute();
}
