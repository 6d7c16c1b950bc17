import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import type { RevocationNotice } from './revocation-notice.ts';

/** So many notices of each clock are remembered; the time of those before is. */
export const MAX_SEEN = 4096;
/** Those without a time cannot be told from new ones once they are forgotten: more of them are remembered. */
const WITHOUT_TIME_FACTOR = 16;

/** Notices that were acted upon, also by earlier processes. */
export type SeenNotices = {
  /** Whether this one was, or is as old as one that is not remembered any more. */
  readonly has: (notice: RevocationNotice) => boolean;
  readonly add: (notice: RevocationNotice) => Promise<void>;
};

/** Times by different clocks are never compared: that of the existing verifier is off by its time zone. */
const CLOCKS = ['utc', 'verifier', 'none'] as const;
type Memory = { forgottenUpToMs: number; readonly ids: Map<string, number> };
type Memories = Readonly<Record<(typeof CLOCKS)[number], Memory>>;

/**
 * Reads what the file at `path` remembers. [MUST] A signed notice stays signed for ever: without this memory whoever kept
 * one could have it acted upon again. A file that is damaged is reported, and what it knew is lost.
 */
export async function openSeenNotices(path: string, log: Log, limit = MAX_SEEN): Promise<SeenNotices> {
  const memories = await read(path, log);
  return {
    has({ id, happened }) {
      const { ids, forgottenUpToMs } = memories[happened?.clock ?? 'none'];
      return ids.has(id) || (happened !== undefined && happened.atMs <= forgottenUpToMs);
    },
    async add({ id, happened }) {
      const memory = memories[happened?.clock ?? 'none'];
      memory.ids.set(id, happened?.atMs ?? 0);
      const most = happened === undefined ? limit * WITHOUT_TIME_FACTOR : limit;
      for (const [oldest, atMs] of memory.ids) {
        if (memory.ids.size <= most) break;
        memory.ids.delete(oldest);
        memory.forgottenUpToMs = Math.max(memory.forgottenUpToMs, atMs);
      }
      try {
        await replaceFile(path, textOf(memories), PRIVATE_FILE_MODE);
      } catch (cause) {
        log.error('A revocation cannot be remembered beyond a restart', { path, reason: cause });
      }
    },
  };
}

const textOf = (memories: Memories): string =>
  JSON.stringify(
    Object.fromEntries(
      CLOCKS.map((clock) => {
        const { forgottenUpToMs, ids } = memories[clock];
        return [clock, { forgottenUpToMs, ids: [...ids] }];
      }),
    ),
  );

async function read(path: string, log: Log): Promise<Memories> {
  const nothing = (): Memory => ({ forgottenUpToMs: 0, ids: new Map() });
  const empty = { utc: nothing(), verifier: nothing(), none: nothing() };
  const text = (await findFile(path))?.toString('utf8');
  if (text === undefined) return empty;
  const json = parseJson(text);
  if (isJsonObject(json)) {
    const [utc, verifier, none] = CLOCKS.map((clock) => memoryOf(json[clock]));
    if (utc && verifier && none) return { utc, verifier, none };
  }
  log.error('The file that remembers revocations is damaged: old ones could be repeated', { path });
  return empty;
}

function memoryOf(json: Json | undefined): Memory | undefined {
  if (!isJsonObject(json) || typeof json.forgottenUpToMs !== 'number' || !Array.isArray(json.ids)) return undefined;
  const isPair = (pair: unknown): pair is [string, number] =>
    Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'number';
  const ids: unknown[] = json.ids;
  return ids.every(isPair) ? { forgottenUpToMs: json.forgottenUpToMs, ids: new Map(ids) } : undefined;
}
