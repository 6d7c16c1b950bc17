import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs';
import path from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { setTimeout } from 'node:timers/promises';
import { codeOf } from '@keylime/core/coded-error';
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Dialect,
  type Driver,
  type Kysely,
  type QueryResult,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
  type TransactionSettings,
} from 'kysely';
import { encodeParameter } from './column-types.ts';
import { DatabaseError } from './database-error.ts';

/** How long to wait for another process: for its opening of the file, and for its writing. */
const OPEN_TIMEOUT_MS = 5_000;
const BUSY_TIMEOUT_MS = 10_000;
const MAX_CACHED_STATEMENTS = 500;

/** Primary result code of SQLite (sqlite3.h); extended codes have it in their low byte. */
const SQLITE_BUSY = 5;

/**
 * Opens (or makes) a SQLite file for its owner only: folder 0700, file 0600. Journal in WAL mode with `synchronous =
 * FULL`: a committed verdict survives a killed process and a power cut; group the writes (write-group.ts) to pay for it
 * once. Throws `DatabaseError`.
 */
export function openSqliteFile(file: string): DatabaseSync {
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
    closeSync(openSync(file, 'a', 0o600));
    chmodSync(file, 0o600); // an older file may have been readable by others; it holds secrets
    const database = new DatabaseSync(file, { timeout: OPEN_TIMEOUT_MS, enableForeignKeyConstraints: true });
    database.exec('pragma journal_mode = wal; pragma synchronous = full; pragma trusted_schema = off');
    database.exec('pragma busy_timeout = 0'); // from here on the driver waits, without stopping the event loop
    return database;
  } catch (error) {
    throw openError(file, error);
  }
}

function openError(file: string, error: unknown): DatabaseError {
  const code = codeOf(error);
  const errcode = error instanceof Error && 'errcode' in error ? error.errcode : undefined;
  const why = error instanceof Error ? error.message : String(error);
  if (errcode === 26 || errcode === 11) {
    return new DatabaseError(
      'database_unusable',
      `${file} is not a SQLite database, or is damaged: restore it, or move it away`,
      { cause: error },
    );
  }
  if (code !== 'ERR_SQLITE_ERROR' || errcode === 8 || errcode === 14) {
    const advice = 'check that the folder exists and belongs to the user of this program';
    return new DatabaseError('database_not_writable', `cannot write the database ${file}: ${why}; ${advice}`, {
      cause: error,
    });
  }
  return new DatabaseError('database_unusable', `cannot use the database ${file}: ${why}`, { cause: error });
}

/** Kysely's dialect over node:sqlite. One connection; those who want it queue up in order. */
export function sqliteDialect(database: DatabaseSync, onStatement?: (sql: string) => void): Dialect {
  return {
    createAdapter: () => new QueueingAdapter(),
    createDriver: () => new SqliteDriver(database, onStatement),
    createIntrospector: (db: Kysely<unknown>) => new SqliteIntrospector(db),
    createQueryCompiler: () => new SqliteQueryCompiler(),
  };
}

/** Kysely's own lock for single connections wakes all who wait at each release; the driver here keeps a queue. */
class QueueingAdapter extends SqliteAdapter {
  override get supportsMultipleConnections(): boolean {
    return true;
  }
}

class SqliteDriver implements Driver {
  readonly #database: DatabaseSync;
  readonly #connection: SqliteConnection;
  readonly #waiting: (() => void)[] = [];
  #taken = false;

  constructor(database: DatabaseSync, onStatement: ((sql: string) => void) | undefined) {
    this.#database = database;
    this.#connection = new SqliteConnection(database, onStatement);
  }

  async init(): Promise<void> {}

  async acquireConnection(): Promise<DatabaseConnection> {
    if (this.#taken) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#taken = true;
    return this.#connection;
  }

  async releaseConnection(): Promise<void> {
    const next = this.#waiting.shift();
    if (next === undefined) this.#taken = false;
    else next();
  }

  /** A transaction that may write takes the write lock at once: a later upgrade can fail under another process. */
  async beginTransaction(_: DatabaseConnection, { accessMode }: TransactionSettings): Promise<void> {
    await whileBusy(() => this.#connection.run(accessMode === 'read only' ? 'begin' : 'begin immediate', []));
  }

  async commitTransaction(): Promise<void> {
    this.#connection.run('commit', []);
  }

  async rollbackTransaction(): Promise<void> {
    // Some errors (a full disk) have already rolled back; a second rollback would hide the first error.
    if (this.#database.isTransaction) this.#connection.run('rollback', []);
  }

  async destroy(): Promise<void> {
    this.#database.close();
  }
}

/** Tries again while another process writes. Only for what starts a transaction: inside of one there is no waiting. */
async function whileBusy<T>(run: () => T): Promise<T> {
  const deadline = performance.now() + BUSY_TIMEOUT_MS;
  for (let delayMs = 1; ; delayMs = Math.min(2 * delayMs, 50)) {
    try {
      return run();
    } catch (error) {
      if (!isBusy(error) || performance.now() > deadline) throw error;
    }
    await setTimeout(delayMs);
  }
}

const isBusy = (error: unknown): boolean =>
  error instanceof Error &&
  'errcode' in error &&
  typeof error.errcode === 'number' &&
  (error.errcode & 0xff) === SQLITE_BUSY;

type Decoder = (value: unknown) => unknown;
type Prepared = {
  readonly statement: StatementSync;
  readonly reads: boolean;
  readonly decoders: readonly (readonly [column: string, decode: Decoder])[];
};

/** By declared column type; column-types.ts declares them. */
const DECODERS: Readonly<Record<string, Decoder>> = {
  boolean: (value) => value === 1,
  json_text: (value) => (typeof value === 'string' ? JSON.parse(value) : value),
  blob: (value) =>
    value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength) : value,
};

class SqliteConnection implements DatabaseConnection {
  readonly #database: DatabaseSync;
  readonly #onStatement: ((sql: string) => void) | undefined;
  readonly #prepared = new Map<string, Prepared>();

  constructor(database: DatabaseSync, onStatement: ((sql: string) => void) | undefined) {
    this.#database = database;
    this.#onStatement = onStatement;
  }

  async executeQuery<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    const run = () => this.run(sql, parameters) as QueryResult<R>;
    return this.#database.isTransaction ? run() : whileBusy(run);
  }

  // biome-ignore lint/correctness/useYield: node:sqlite answers at once, so there is nothing to stream
  async *streamQuery<R>(): AsyncIterableIterator<QueryResult<R>> {
    throw new Error('streaming is not supported; page through the rows by key');
  }

  run(sql: string, parameters: readonly unknown[]): QueryResult<unknown> {
    this.#onStatement?.(sql);
    const { statement, reads, decoders } = this.#prepare(sql);
    const values = parameters.map(bindable);
    if (!reads) {
      const { changes, lastInsertRowid } = statement.run(...values);
      return { rows: [], numAffectedRows: BigInt(changes), insertId: BigInt(lastInsertRowid) };
    }
    // Copied, as node:sqlite's rows have no prototype and those of pg have.
    const rows = statement.all(...values).map((row): Record<string, unknown> => ({ ...row }));
    for (const [column, decode] of decoders) {
      for (const row of rows) if (row[column] !== null) row[column] = decode(row[column]);
    }
    return { rows, numAffectedRows: BigInt(rows.length) };
  }

  #prepare(sql: string): Prepared {
    const cached = this.#prepared.get(sql);
    if (cached !== undefined) return cached;
    const statement = this.#database.prepare(sql);
    const columns = statement.columns();
    const decoders = columns.flatMap(({ name, type }) => {
      const decode = type === null ? undefined : DECODERS[type.toLowerCase()];
      return decode === undefined ? [] : [[name, decode] as const];
    });
    const prepared = { statement, reads: columns.length > 0, decoders };
    // Statements of a schema change may be stale afterwards, and are run once.
    if (!/^\s*(select|insert|update|delete|with|begin|commit|rollback)/i.test(sql)) this.#prepared.clear();
    else if (this.#prepared.size < MAX_CACHED_STATEMENTS) this.#prepared.set(sql, prepared);
    return prepared;
  }
}

function bindable(value: unknown): SQLInputValue {
  const encoded = encodeParameter(value);
  return typeof encoded === 'boolean' ? Number(encoded) : encoded;
}
