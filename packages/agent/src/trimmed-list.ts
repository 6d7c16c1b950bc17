import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { AgentError } from './agent-error.ts';
import { exclusive } from './exclusive.ts';
import { type ListPosition, locate, type PositionFile } from './list-position.ts';
import type { ListPart, MeasurementList } from './measurement-list.ts';

const NEWLINE = 0x0a;
const MOST_READINGS = 8;
const READING_PAUSE_MS = 100;

/** Where a kernel that lets user space remove records shows those that are about to go (Linux 7.2, CONFIG_IMA_STAGING). */
const stagedPath = (path: string): string => `${path}_staged`;

/** Whether records of the list at `path` can be removed. */
export const isTrimmable = (path: string): boolean => existsSync(stagedPath(path));

/**
 * A measurement list from whose beginning records may go at any time: the staged ones, then the current ones. Entries keep
 * the numbers that they had in the list when it was whole; where the first ones wanted are gone, the list begins with the
 * first that is there, and its number says so. The files are open only while they are read, because nobody can remove
 * records meanwhile.
 */
export function openTrimmedList(
  path: string,
  kept: PositionFile,
  unreadable: (cause: unknown) => void,
): MeasurementList {
  const one = exclusive();
  let position: ListPosition | undefined;

  const readPosition = async () => {
    const records = await readRecords(path).catch((cause: unknown) => {
      if (cause instanceof AgentError) throw cause;
      unreadable(cause);
      return undefined;
    });
    if (records === undefined) return undefined;
    position ??= await kept.read();
    const whole = records.subarray(0, records.lastIndexOf(NEWLINE) + 1);
    const located = locate(whole, position);
    if (located === undefined) {
      throw new AgentError(
        'list_position_unknown',
        'Records were removed from the measurement list before this agent read them, so its entries cannot be numbered: reboot the machine.',
      );
    }
    const before = position;
    position = located.position;
    if (before?.nextEntry !== position.nextEntry) await kept.write(position);
    return { records, removed: located.removed, entries: position.nextEntry };
  };

  const readFrom = async (from: number): Promise<ListPart | undefined> => {
    const list = await readPosition();
    if (list === undefined) return undefined;
    const { records, removed, entries } = list;
    const firstEntry = from >= removed && from <= entries ? from : removed;
    const text = decodeUtf8(records.subarray(lineOffset(records, firstEntry - removed)));
    return { firstEntry, content: { kind: 'text', text } };
  };
  return {
    readFrom: (from) => one(() => readFrom(from)),
    countEntries: () => one(async () => (await readPosition())?.entries),
    close: () => {},
  };
}

/**
 * Staged and current records as they were at one moment: staging moves them from one file to the other.
 * @throws AgentError `list_changing`
 */
async function readRecords(path: string): Promise<Buffer> {
  for (let reading = 0; reading < MOST_READINGS; reading++) {
    // The first ones at once: records are staged now and then, not while a list is read.
    if (reading > 2) await sleep(READING_PAUSE_MS);
    const before = await readFile(stagedPath(path));
    const current = await readFile(path);
    const after = await readFile(stagedPath(path));
    if (before.equals(after)) return Buffer.concat([before, current]);
  }
  throw new AgentError(
    'list_changing',
    `Records of the measurement list were staged or removed each of the ${MOST_READINGS} times that it was read: find out what does so all the time.`,
  );
}

function lineOffset(list: Buffer, line: number): number {
  let offset = 0;
  for (let i = 0; i < line; i++) offset = list.indexOf(NEWLINE, offset) + 1;
  return offset;
}
