import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { exclusive } from './exclusive.ts';
import type { ListPart, MeasurementList } from './measurement-list.ts';

const NEWLINE = 0x0a;

/** Where a kernel that lets user space remove records shows those that are about to go (Linux 7.2, CONFIG_IMA_STAGING). */
const stagedPath = (path: string): string => `${path}_staged`;

/** Whether records of the list at `path` can be removed. */
export const isTrimmable = (path: string): boolean => existsSync(stagedPath(path));

/**
 * A measurement list from whose beginning records may go at any time: the staged ones, then the current ones. Entries keep
 * the numbers that they had in the list when it was whole; where the first ones wanted are gone, the list begins with the
 * first that is there, and its number says so. Records that went before this was opened cannot be counted. The files are
 * open only while they are read, because nobody can remove records meanwhile.
 */
export function openTrimmedList(path: string, unreadable: (cause: unknown) => void): MeasurementList {
  const one = exclusive();
  const position = new ListPosition();

  const readFrom = async (from: number): Promise<ListPart | undefined> => {
    const records = await readRecords(path).catch((cause: unknown) => {
      unreadable(cause);
      return undefined;
    });
    if (records === undefined) return undefined;
    position.advance(records);
    const { removed, count } = position;
    const firstEntry = from >= removed && from <= removed + count ? from : removed;
    const text = decodeUtf8(records.subarray(lineOffset(records, firstEntry - removed)));
    return { firstEntry, content: { kind: 'text', text } };
  };
  return { readFrom: (from) => one(() => readFrom(from)), close: () => {} };
}

/** Staged and current records as they were at one moment: staging moves them from one file to the other. */
async function readRecords(path: string): Promise<Buffer> {
  for (;;) {
    const before = await readFile(stagedPath(path));
    const current = await readFile(path);
    const after = await readFile(stagedPath(path));
    if (before.equals(after)) return Buffer.concat([before, current]);
  }
}

/** Counts the records that are gone, by comparing each reading with the one before. */
class ListPosition {
  removed = 0;
  #records: readonly string[] = [];

  get count(): number {
    return this.#records.length;
  }

  /** Takes a reading: what was read before without its first records, then new ones. */
  advance(list: Buffer): void {
    const records = fingerprints(list);
    const old = this.#records;
    let gone = 0;
    // The fewest that can be gone: of records that are all alike it cannot be told, but those are violations of one file.
    while (gone < old.length && !startsWith(records, old, gone)) gone++;
    this.removed += gone;
    this.#records = records;
  }
}

const startsWith = (records: readonly string[], old: readonly string[], from: number): boolean => {
  if (old.length - from > records.length) return false;
  for (let i = from; i < old.length; i++) if (records[i - from] !== old[i]) return false;
  return true;
};

/** A short hash of each complete line. */
function fingerprints(list: Buffer): readonly string[] {
  const found: string[] = [];
  for (let start = 0, end = list.indexOf(NEWLINE); end >= 0; start = end + 1, end = list.indexOf(NEWLINE, start)) {
    found.push(createHash('sha1').update(list.subarray(start, end)).digest('base64').slice(0, 16));
  }
  return found;
}

function lineOffset(list: Buffer, line: number): number {
  let offset = 0;
  for (let i = 0; i < line; i++) offset = list.indexOf(NEWLINE, offset) + 1;
  return offset;
}
