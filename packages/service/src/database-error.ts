import { CodedError } from '@keylime/core/coded-error';

export type DatabaseErrorCode =
  | 'database_url_invalid'
  | 'database_unreachable'
  | 'database_login_refused'
  | 'database_missing'
  | 'database_not_writable'
  | 'database_unusable'
  | 'database_foreign'
  | 'database_newer'
  | 'database_older';

/** The database cannot be used at all; the message says which one and what to do, and never holds a password. */
export class DatabaseError extends CodedError<DatabaseErrorCode> {}

export type Constraint = 'unique' | 'foreign_key' | 'not_null' | 'check';

/** Extended result codes of SQLite (sqlite3.h, SQLITE_CONSTRAINT_*). */
const SQLITE_CONSTRAINTS: Readonly<Record<number, Constraint>> = {
  275: 'check',
  787: 'foreign_key',
  1299: 'not_null',
  1555: 'unique',
  2067: 'unique',
  2579: 'unique',
};

/** SQLSTATE class 23 of PostgreSQL (Appendix A). */
const POSTGRES_CONSTRAINTS: Readonly<Record<string, Constraint>> = {
  '23502': 'not_null',
  '23503': 'foreign_key',
  '23505': 'unique',
  '23514': 'check',
};

/** The constraint that a statement failed on, the same for both engines; `undefined` for every other error. */
export function brokenConstraint(error: unknown): Constraint | undefined {
  if (!(error instanceof Error)) return undefined;
  if ('errcode' in error && typeof error.errcode === 'number') return SQLITE_CONSTRAINTS[error.errcode];
  if ('code' in error && typeof error.code === 'string') return POSTGRES_CONSTRAINTS[error.code];
  return undefined;
}
