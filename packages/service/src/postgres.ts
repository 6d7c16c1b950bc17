import { codeOf } from '@keylime/core/coded-error';
import { type Dialect, PostgresDialect, type PostgresPool } from 'kysely';
import pg from 'pg';
import { encodeParameter } from './column-types.ts';
import { DatabaseError, type DatabaseErrorCode } from './database-error.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const STATEMENT_TIMEOUT_MS = 60_000;

/** Object identifiers of built-in types (pg_type.dat) that pg reads as text, but that we read as numbers. */
const INT8 = 20;
const NUMERIC = 1700;

function safeNumber(text: string): number {
  const value = Number(text);
  if (/^-?\d+$/.test(text) && !Number.isSafeInteger(value))
    throw new RangeError(`the integer ${text} in the database is too large`);
  return value;
}

const types: pg.CustomTypesConfig = {
  getTypeParser: ((oid: number, format?: 'text' | 'binary') =>
    oid === INT8 || oid === NUMERIC
      ? safeNumber
      : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser,
};

/** Kysely's dialect over pg, with parameters and results as sqlite.ts has them. Nothing connects before the first use. */
export function postgresDialect(
  url: string,
  {
    program,
    poolSize,
    onStatement,
  }: { program: string; poolSize: number; onStatement?: ((sql: string) => void) | undefined },
): Dialect {
  const pool = new pg.Pool({
    connectionString: url,
    max: poolSize,
    types,
    application_name: `keylime.${program}`,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    idle_in_transaction_session_timeout: STATEMENT_TIMEOUT_MS,
    keepAlive: true,
  });
  // A kept connection was closed by the server: the pool has dropped it, and the next query opens another one.
  pool.on('error', () => {});
  const wrapped: PostgresPool = {
    options: pool.options,
    end: () => pool.end(),
    connect: async () => wrapClient(await pool.connect(), onStatement),
  };
  return new PostgresDialect({ pool: wrapped });
}

type Client = Awaited<ReturnType<PostgresPool['connect']>>;

const wrappers = new WeakMap<pg.PoolClient, Client>();

function wrapClient(client: pg.PoolClient, onStatement: ((sql: string) => void) | undefined): Client {
  const known = wrappers.get(client);
  if (known !== undefined) return known;
  let broken = false;
  // The server may end a connection while somebody holds it and asks nothing: the next question finds out.
  client.on('error', () => {
    broken = true;
  });
  const query = async (sql: string, parameters: readonly unknown[]) => {
    onStatement?.(sql);
    const values = parameters.map(encodeParameter);
    try {
      return await client.query(sql, values);
    } catch (error) {
      broken ||= endsConnection(error);
      throw error;
    }
  };
  const wrapper = { query, release: (destroy?: boolean) => client.release(destroy || broken) } as unknown as Client;
  wrappers.set(client, wrapper);
  return wrapper;
}

/** The server has said that it ends the connection, or it is gone: the next user of it would meet the error again. */
const endsConnection = (error: unknown): boolean =>
  error instanceof pg.DatabaseError ? error.severity === 'FATAL' || error.severity === 'PANIC' : true;

const UNREACHABLE = [
  'ECONNREFUSED',
  'ECONNRESET',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EACCES',
];

/** SQLSTATEs of PostgreSQL (Appendix A) that a first connection can end with. */
const REFUSALS: Readonly<Record<string, readonly [DatabaseErrorCode, string]>> = {
  '28P01': ['database_login_refused', 'the password is wrong; correct database_url'],
  '28000': ['database_login_refused', 'this user may not log in; check database_url and pg_hba.conf'],
  '3D000': ['database_missing', 'there is no such database; create it with createdb'],
  '42501': ['database_not_writable', 'this user lacks the right; GRANT it'],
  '53300': [
    'database_unreachable',
    'all its connections are taken; raise max_connections or lower database_pool_sz_ovfl',
  ],
  '57P03': ['database_unreachable', 'it is starting up or shutting down; try again'],
};

/** What an error of the first connection means for the operator. */
export function postgresError(shown: string, error: unknown): DatabaseError {
  const code = codeOf(error) ?? '';
  const [kind, advice] = REFUSALS[code] ?? [];
  if (kind !== undefined) return new DatabaseError(kind, `the database ${shown} refuses: ${advice}`, { cause: error });
  const why = error instanceof AggregateError ? code : error instanceof Error ? error.message : String(error);
  const text = `cannot reach the database ${shown}: ${why}; check that it runs and that database_url is right`;
  if (UNREACHABLE.includes(code) || code === '')
    return new DatabaseError('database_unreachable', text, { cause: error });
  return new DatabaseError('database_unusable', `cannot use the database ${shown}: ${why}`, { cause: error });
}
