import { Kysely, sql } from 'kysely';
import { parseDatabaseUrl } from './database-url.ts';
import { postgresDialect, postgresError } from './postgres.ts';
import { openSqliteFile, sqliteDialect } from './sqlite.ts';

export type DatabaseOptions = {
  /** `database_url` as configured. */
  readonly url: string;
  readonly workDir: string;
  /** Names the SQLite file in the work directory: `verifier.sqlite`, `registrar.sqlite`. */
  readonly program: 'verifier' | 'registrar';
  /** Most PostgreSQL connections (size plus overflow of `database_pool_sz_ovfl`). */
  readonly poolSize?: number;
  /** Called with every statement that runs, for benchmarks. */
  readonly onStatement?: (sql: string) => void;
};

/**
 * Opens the database and makes sure that it answers; `db.destroy()` closes it. `Tables` describes the schema for Kysely.
 * Values come back alike from SQLite and PostgreSQL if columns are declared with column-types.ts. Throws `DatabaseError`.
 *
 * The files of the existing services (`cv_data.sqlite`, `reg_data.sqlite`) are another schema and are left alone.
 */
export async function openDatabase<Tables>(options: DatabaseOptions): Promise<Kysely<Tables>> {
  const { url, workDir, program, poolSize = 15, onStatement } = options;
  const target = parseDatabaseUrl(url, workDir, program);
  const sqlite = target.engine === 'sqlite';
  const dialect = sqlite
    ? sqliteDialect(openSqliteFile(target.file), onStatement)
    : postgresDialect(target.url, { program, poolSize, onStatement });
  const db = new Kysely<Tables>({ dialect });
  try {
    await sql`select 1`.execute(db); // Kysely opens with the first query only, and closes only what it has opened
    return db;
  } catch (error) {
    await db.destroy();
    throw sqlite ? error : postgresError(target.shown, error);
  }
}
