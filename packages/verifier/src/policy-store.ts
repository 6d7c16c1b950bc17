import type { Kysely, Transaction } from 'kysely';
import type { GroupWrite } from './agent-store.ts';
import type { VerifierTables } from './tables.ts';

/** A runtime policy as it is kept: `text` exactly as uploaded, `checksum` its SHA-256 in hex. */
export type StoredPolicy = {
  readonly name: string;
  readonly text: string;
  readonly checksum: string;
  readonly generator: number;
};

export type PolicyStore = {
  readonly find: (name: string) => Promise<StoredPolicy | undefined>;
  /** The text of the policies with this checksum. */
  readonly findText: (checksum: string) => Promise<string | undefined>;
  readonly listNames: () => Promise<readonly string[]>;
  /** Tells whether the name was free. */
  readonly create: (policy: StoredPolicy) => Promise<boolean>;
  /** Tells whether there was such a policy. */
  readonly replace: (policy: StoredPolicy) => Promise<boolean>;
  readonly remove: (name: string) => Promise<'removed' | 'unknown' | { readonly usedBy: string }>;
};

export function sqlPolicyStore(db: Kysely<VerifierTables>, write: GroupWrite): PolicyStore {
  return {
    find: (name) => findPolicy(db, name),
    findText: async (checksum) =>
      (await db.selectFrom('runtime_policies').select('text').where('checksum', '=', checksum).executeTakeFirst())
        ?.text,
    listNames: async () =>
      (await db.selectFrom('runtime_policies').select('name').orderBy('name').execute()).map(({ name }) => name),
    create: (policy) => write((trx) => insertPolicy(trx, policy)),
    replace: ({ name, ...content }) =>
      write(async (trx) => {
        const { numUpdatedRows } = await trx
          .updateTable('runtime_policies')
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
          .where('runtime_policy_name', '=', name)
          .orderBy('agent_id')
          .executeTakeFirst();
        if (user !== undefined) return { usedBy: user.agent_id };
        const { numDeletedRows } = await trx.deleteFrom('runtime_policies').where('name', '=', name).executeTakeFirst();
        return numDeletedRows === 1n ? 'removed' : 'unknown';
      }),
  };
}

export const findPolicy = (db: Kysely<VerifierTables>, name: string): Promise<StoredPolicy | undefined> =>
  db.selectFrom('runtime_policies').selectAll().where('name', '=', name).executeTakeFirst();

/** Tells whether the name was free. */
export async function insertPolicy(trx: Transaction<VerifierTables>, policy: StoredPolicy): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await trx
    .insertInto('runtime_policies')
    .values(policy)
    .onConflict((conflict) => conflict.doNothing())
    .executeTakeFirst();
  return numInsertedOrUpdatedRows === 1n;
}
