import { createHash } from 'node:crypto';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DatabaseTarget } from '@keylime/service/database-url';
import { type Kysely, sql } from 'kysely';
import type { VerifierTables } from './tables.ts';

/** The right to attest the agents of one verifier name in one database; at most one process has it. */
export type Ownership = {
  /** Resolves if it is lost without being released: this process must stop. */
  readonly lost: Promise<Error>;
  readonly release: () => Promise<void>;
};

const RETRY_MS = 500;
const CHECK_MS = 2000;

/**
 * Waits until this process owns `verifierId`. The lock lives as long as the process: the kernel (SQLite: a locked file beside
 * the database) or the server (PostgreSQL: an advisory lock of a connection) frees it when the process dies, however it
 * dies, and a second process that waits here takes over. `waiting` is called once if there is somebody to wait for.
 */
export async function acquireOwnership(options: {
  readonly db: Kysely<VerifierTables>;
  readonly target: DatabaseTarget;
  readonly verifierId: string;
  readonly waiting: () => void;
  readonly signal?: AbortSignal;
}): Promise<Ownership> {
  const take =
    options.target.engine === 'sqlite' ? takeFile(options.target.file, options.verifierId) : takeAdvisory(options);
  for (let attempt = 0; ; attempt++) {
    const ownership = await take();
    if (ownership !== undefined) return ownership;
    if (attempt === 0) options.waiting();
    await sleep(RETRY_MS, undefined, options.signal ? { signal: options.signal } : {});
  }
}

function takeFile(databaseFile: string, verifierId: string): () => Promise<Ownership | undefined> {
  const name = createHash('sha256').update(verifierId).digest('hex').slice(0, 16);
  return async () => {
    const lock = new DatabaseSync(`${databaseFile}.${name}.owner`, { timeout: 0 });
    try {
      lock.exec('begin exclusive');
    } catch (error) {
      lock.close();
      if (error instanceof Error && 'errcode' in error && error.errcode === 5) return undefined; // SQLITE_BUSY
      throw error;
    }
    return { lost: new Promise(() => {}), release: async () => lock.close() };
  };
}

function takeAdvisory({
  db,
  verifierId,
}: {
  readonly db: Kysely<VerifierTables>;
  readonly verifierId: string;
}): () => Promise<Ownership | undefined> {
  const key = createHash('sha256').update(`keylime verifier ${verifierId}`).digest().readBigInt64BE().toString();
  return () =>
    new Promise((resolve, reject) => {
      let release = () => {};
      const released = new Promise<void>((done) => {
        release = done;
      });
      let lose: (error: Error) => void = () => {};
      const lost = new Promise<Error>((done) => {
        lose = done;
      });
      const held = db.connection().execute(async (connection) => {
        const { rows } = await sql<{ taken: boolean }>`select pg_try_advisory_lock(${key}::bigint) as taken`.execute(
          connection,
        );
        if (rows[0]?.taken !== true) return resolve(undefined);
        resolve({
          lost,
          release: async () => {
            release();
            await held.catch(() => {});
          },
        });
        let over = false;
        void released.then(() => {
          over = true;
        });
        while (!over) {
          await Promise.race([released, sleep(CHECK_MS)]);
          if (!over) await sql`select 1`.execute(connection);
        }
        await sql`select pg_advisory_unlock(${key}::bigint)`.execute(connection);
      });
      held.catch((error: unknown) => {
        const fault = error instanceof Error ? error : new Error(String(error));
        lose(fault);
        reject(fault);
      });
    });
}
