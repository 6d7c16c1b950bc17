import { type Kysely, sql, type Transaction } from 'kysely';
import { type ColumnTypes, columnTypes, type Engine, engineOf } from './column-types.ts';
import { DatabaseError } from './database-error.ts';

/** One step of a schema. The steps of a program are numbered 1, 2, 3 … and never change once released. */
export type Migration = {
  readonly name: string;
  readonly up: (trx: Transaction<unknown>, columns: ColumnTypes) => Promise<void>;
};

export type MigrateOptions = {
  /** Two programs may share a PostgreSQL database: each has its own version table, `<program>_schema_version`. */
  readonly program: 'verifier' | 'registrar';
  /** The schema: applying all of them in order makes it. */
  readonly migrations: readonly Migration[];
  /** `auto_migrate_db`; false refuses an older schema instead of changing it. */
  readonly apply?: boolean;
};

/** Tables by which databases of the existing services are recognised. */
const FOREIGN_TABLES = ['alembic_version_cloud_verifier', 'alembic_version_registrar', 'verifiermain', 'registrarmain'];

/** Any number; the same in all our processes. Serialises migrations of one database on PostgreSQL. */
const LOCK = 0x6b65796c;

type VersionTable = { readonly version: number; readonly name: string; readonly applied_at: number };

/**
 * Brings the schema to the newest version, in one transaction under a lock: processes that start together wait for each
 * other, and a failed step leaves everything as it was. Returns the versions before and after. Throws `DatabaseError`
 * for a schema of a newer release (`database_newer`), an older one with `apply` false (`database_older`), and a
 * database of the existing services (`database_foreign`).
 */
export async function migrate<Tables>(
  db: Kysely<Tables>,
  { program, migrations, apply = true }: MigrateOptions,
): Promise<{ readonly from: number; readonly to: number }> {
  const engine = engineOf(db);
  const table = `${program}_schema_version`;
  return db.transaction().execute(async (typed) => {
    const trx = typed as unknown as Transaction<Record<string, VersionTable>>;
    if (engine === 'postgresql') await sql`select pg_advisory_xact_lock(${LOCK})`.execute(trx);
    const tables = await tableNames(trx, engine);
    const foreign = FOREIGN_TABLES.find((name) => tables.has(name));
    if (foreign !== undefined) {
      const advice = 'give this program a database of its own (database_url)';
      throw new DatabaseError(
        'database_foreign',
        `the database belongs to the existing Keylime services (table ${foreign}): ${advice}`,
      );
    }
    const from = tables.has(table) ? await currentVersion(trx, table) : 0;
    const to = migrations.length;
    if (from > to) {
      const text = `the database has schema version ${from}, made by a newer release; this one knows ${to}: update the program`;
      throw new DatabaseError('database_newer', text);
    }
    if (from < to && !apply) {
      const text = `the database has schema version ${from}, this release needs ${to}: set auto_migrate_db = True`;
      throw new DatabaseError('database_older', text);
    }
    const columns = columnTypes(engine);
    if (!tables.has(table) && to > 0) {
      const create = trx.schema
        .createTable(table)
        .addColumn('version', columns.integer, (column) => column.primaryKey());
      const named = create.addColumn('name', columns.text, (column) => column.notNull());
      await named.addColumn('applied_at', columns.integer, (column) => column.notNull()).execute();
    }
    for (const [index, { name, up }] of migrations.entries()) {
      const version = index + 1;
      if (version <= from) continue;
      await up(trx as unknown as Transaction<unknown>, columns);
      await trx.insertInto(table).values({ version, name, applied_at: Date.now() }).execute();
    }
    return { from, to };
  });
}

async function tableNames(
  trx: Transaction<Record<string, VersionTable>>,
  engine: Engine,
): Promise<ReadonlySet<string>> {
  const names =
    engine === 'sqlite'
      ? sql<{ name: string }>`select name from sqlite_master where type = 'table'`
      : sql<{
          name: string;
        }>`select table_name as name from information_schema.tables where table_schema = current_schema()`;
  return new Set((await names.execute(trx)).rows.map(({ name }) => name));
}

async function currentVersion(trx: Transaction<Record<string, VersionTable>>, table: string): Promise<number> {
  const newest = await trx.selectFrom(table).select('version').orderBy('version', 'desc').limit(1).executeTakeFirst();
  return newest?.version ?? 0;
}
