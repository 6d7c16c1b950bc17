import { isJsonObject, parseJson } from '@keylime/core/json';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import type { RevocationNotice } from './revocation-notice.ts';

export const MAX_SEEN = 4096;

/** Notices that were acted upon, also by earlier processes. */
export type SeenNotices = {
  /** Whether this one was, or is as old as one that is not remembered any more. */
  readonly has: (notice: RevocationNotice) => boolean;
  readonly add: (notice: RevocationNotice) => Promise<void>;
};

/**
 * Reads what the file at `path` remembers. [MUST] A signed notice stays signed for ever: without this memory whoever kept
 * one could have it acted upon again. A file that is damaged is reported, and what it knew is lost.
 */
export async function openSeenNotices(path: string, log: Log, limit = MAX_SEEN): Promise<SeenNotices> {
  const state = await read(path, log);
  return {
    has({ id, eventAtMs }) {
      return state.ids.has(id) || (eventAtMs !== undefined && eventAtMs <= state.forgottenUpToMs);
    },
    async add({ id, eventAtMs }) {
      state.ids.set(id, eventAtMs ?? 0);
      for (const [oldest, atMs] of state.ids) {
        if (state.ids.size <= limit) break;
        state.ids.delete(oldest);
        state.forgottenUpToMs = Math.max(state.forgottenUpToMs, atMs);
      }
      const text = JSON.stringify({ forgottenUpToMs: state.forgottenUpToMs, ids: [...state.ids] });
      try {
        await replaceFile(path, text, PRIVATE_FILE_MODE);
      } catch (cause) {
        log.error('A revocation cannot be remembered beyond a restart', { path, reason: cause });
      }
    },
  };
}

async function read(path: string, log: Log): Promise<{ forgottenUpToMs: number; ids: Map<string, number> }> {
  const text = (await findFile(path))?.toString('utf8');
  if (text === undefined) return { forgottenUpToMs: 0, ids: new Map() };
  const json = parseJson(text);
  const isPair = (pair: unknown): pair is [string, number] =>
    Array.isArray(pair) && typeof pair[0] === 'string' && typeof pair[1] === 'number';
  if (isJsonObject(json) && typeof json.forgottenUpToMs === 'number' && Array.isArray(json.ids)) {
    const ids: unknown[] = json.ids;
    if (ids.every(isPair)) return { forgottenUpToMs: json.forgottenUpToMs, ids: new Map(ids) };
  }
  log.error('The file that remembers revocations is damaged: old ones could be repeated', { path });
  return { forgottenUpToMs: 0, ids: new Map() };
}
