import { parseBase64 } from '@keylime/core/base64';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { parseImaLine } from '@keylime/ima/entry';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';

const NEWLINE = 0x0a;

/** How much of the end of a reading is remembered: a few dozen lines. */
const TAIL_BYTES = 8192;

/** What is remembered of the last reading: the number of the entry after it, and its end, of whole lines if they fit. */
export type ListPosition = { readonly nextEntry: number; readonly tail: Buffer };

/**
 * How many records are gone from the beginning of a list, of which `list` (whole lines) is there, and what to remember.
 * The kernel does not count them (its `runtime_measurements_count` is that of the list which is there), so this goes by the
 * reading before: what is left of it, then new records. If nothing is left, all of it is gone, and no record besides: one
 * that nobody read is missing in every replay, which then fails. Without a reading before, only a list that begins with
 * `boot_aggregate` is known to be whole; `undefined` for another.
 */
export function locate(
  list: Buffer,
  before: ListPosition | undefined,
): { readonly removed: number; readonly position: ListPosition } | undefined {
  const count = countLines(list, list.length);
  const known = before === undefined ? -1 : endOfKnown(list, before.tail);
  let removed: number;
  if (before !== undefined && known > 0) removed = before.nextEntry - countLines(list, known);
  else if (beginsABoot(list)) removed = 0;
  else if (before !== undefined) removed = before.nextEntry;
  else return undefined;
  if (removed < 0) return undefined;
  return { removed, position: { nextEntry: removed + count, tail: Buffer.from(list.subarray(tailStart(list))) } };
}

/** Where in `list` what was known ends: behind the whole tail, or behind the end of it that the list begins with; -1. */
function endOfKnown(list: Buffer, tail: Buffer): number {
  if (tail.length === 0) return -1;
  // At the latest place: then the fewest records are gone.
  for (let at = list.lastIndexOf(tail); at >= 0; at = at === 0 ? -1 : list.lastIndexOf(tail, at - 1)) {
    if (at === 0 || list[at - 1] === NEWLINE) return at + tail.length;
  }
  for (
    let start = tail.indexOf(NEWLINE) + 1;
    start > 0 && start < tail.length;
    start = tail.indexOf(NEWLINE, start) + 1
  ) {
    const rest = tail.subarray(start);
    if (list.subarray(0, rest.length).equals(rest)) return rest.length;
  }
  return -1;
}

function tailStart(list: Buffer): number {
  if (list.length <= TAIL_BYTES) return 0;
  const line = list.indexOf(NEWLINE, list.length - TAIL_BYTES) + 1;
  // One line that is longer than all that is remembered is remembered whole.
  return line < list.length ? line : list.lastIndexOf(NEWLINE, list.length - 2) + 1;
}

function countLines(list: Buffer, end: number): number {
  let count = 0;
  for (let at = list.indexOf(NEWLINE); at >= 0 && at < end; at = list.indexOf(NEWLINE, at + 1)) count++;
  return count;
}

function beginsABoot(list: Buffer): boolean {
  const end = list.indexOf(NEWLINE);
  const parsed = end < 0 ? undefined : parseImaLine(list.subarray(0, end));
  return parsed?.ok === true && parsed.value.path === 'boot_aggregate';
}

/** Keeps a position between two starts of the agent, within one boot. */
export type PositionFile = {
  readonly read: () => Promise<ListPosition | undefined>;
  readonly write: (position: ListPosition) => Promise<void>;
};

/** `bootId` tells boots apart: after another one the position is of a list that is no more. */
export function positionFile(path: string, bootId: string, log: Log): PositionFile {
  return {
    async read() {
      const text = (await findFile(path))?.toString('utf8');
      if (text === undefined) return undefined;
      const json = parseJson(text);
      const { bootId: ofBoot, nextEntry, tail } = isJsonObject(json) ? json : {};
      const bytes = typeof tail === 'string' ? parseBase64(tail) : undefined;
      if (typeof nextEntry !== 'number' || !Number.isSafeInteger(nextEntry) || nextEntry < 0 || bytes === undefined) {
        log.error('The file that keeps the position in the measurement list is damaged', { path });
        return undefined;
      }
      return ofBoot === bootId ? { nextEntry, tail: bytes } : undefined;
    },
    async write({ nextEntry, tail }) {
      const text = JSON.stringify({ bootId, nextEntry, tail: tail.toString('base64') });
      try {
        await replaceFile(path, text, PRIVATE_FILE_MODE);
      } catch (cause) {
        log.error('The position in the measurement list cannot be remembered beyond a restart', {
          path,
          reason: cause,
        });
      }
    },
  };
}
