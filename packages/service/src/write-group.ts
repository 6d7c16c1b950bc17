import type { Kysely, Transaction } from 'kysely';

export type WriteGroupOptions = {
  /** How long a write may wait for company. More company means fewer commits. Default 5. */
  readonly maxDelayMs?: number;
  /** Writes in one transaction at most. Default 256. */
  readonly maxSize?: number;
};

export type WriteGroup<Tables> = {
  /**
   * Runs `write` with others in one transaction; resolves to its result after the commit. It must touch nothing but the
   * transaction and be safe to repeat: it runs again if its group fails, or if only the answer to a commit was lost.
   * Rejects with its own error only, or with the database's.
   */
  readonly submit: <T>(write: (trx: Transaction<Tables>) => Promise<T>) => Promise<T>;
  /** Takes no more writes, and resolves when those it has are done. */
  readonly close: () => Promise<void>;
};

type Item<Tables> = {
  readonly write: (trx: Transaction<Tables>) => Promise<unknown>;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Groups small writes: one commit, and one wait for the disk, for all that come within `maxDelayMs` or while the
 * previous group commits. Writes run one after the other in the order of their submission. A write that throws fails
 * alone: the group is rolled back and its neighbours run again without it.
 */
export function writeGroup<Tables>(
  db: Kysely<Tables>,
  { maxDelayMs = 5, maxSize = 256 }: WriteGroupOptions = {},
): WriteGroup<Tables> {
  let waiting: Item<Tables>[] = [];
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  let closed = false;

  const start = () => {
    clearTimeout(timer);
    timer = undefined;
    running = drain().finally(() => {
      running = undefined;
      if (waiting.length > 0) arrange();
    });
  };
  const drain = async () => {
    const group = waiting.slice(0, maxSize);
    waiting = waiting.slice(maxSize);
    await runGroup(db, group);
  };
  const arrange = () => {
    if (running !== undefined) return;
    if (closed || waiting.length >= maxSize) start();
    else timer ??= setTimeout(start, maxDelayMs);
  };

  return {
    async submit<T>(write: (trx: Transaction<Tables>) => Promise<T>): Promise<T> {
      if (closed) throw new Error('the write group is closed');
      return new Promise<T>((resolve, reject) => {
        waiting.push({ write, resolve: resolve as (value: unknown) => void, reject });
        arrange();
      });
    },
    async close() {
      closed = true;
      if (waiting.length > 0) arrange();
      while (running !== undefined) await running;
    },
  };
}

/**
 * Commits `group`, or finds the writes that cannot be committed. Never rejects: every item is told its own outcome.
 * Returns an error if there is no transaction to be had, so that nobody goes on trying.
 */
async function runGroup<Tables>(db: Kysely<Tables>, group: readonly Item<Tables>[]): Promise<unknown> {
  let phase: 'begin' | 'write' | 'commit' = 'begin';
  let current = 0;
  try {
    const results = await db.transaction().execute(async (trx) => {
      phase = 'write';
      const values: unknown[] = [];
      for (const [index, { write }] of group.entries()) {
        current = index;
        values.push(await write(trx));
      }
      phase = 'commit';
      return values;
    });
    for (const [index, { resolve }] of group.entries()) resolve(results[index]);
    return undefined;
  } catch (error) {
    if (phase === 'begin' || group.length === 1) {
      for (const { reject } of group) reject(error);
      return phase === 'begin' ? error : undefined;
    }
    if (phase === 'write') {
      return runParts(db, [group.slice(0, current), group.slice(current, current + 1), group.slice(current + 1)]);
    }
    return runParts(
      db,
      group.map((item) => [item]),
    );
  }
}

async function runParts<Tables>(db: Kysely<Tables>, parts: readonly (readonly Item<Tables>[])[]): Promise<unknown> {
  let broken: unknown;
  for (const part of parts) {
    if (broken !== undefined) for (const { reject } of part) reject(broken);
    else if (part.length > 0) broken = await runGroup(db, part);
  }
  return broken;
}
