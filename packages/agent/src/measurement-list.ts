import { setImmediate as nextTurn } from 'node:timers/promises';
import { decodeUtf8 } from '@keylime/ima/list-text';
import { exclusive } from './exclusive.ts';
import type { PositionFile } from './list-position.ts';
import { OpenList } from './open-list.ts';
import { isTrimmable, openTrimmedList } from './trimmed-list.ts';

/** Parts up to this size are text at once; longer ones come in pieces, so that memory does not grow with the list. */
const INLINE_BYTES = 1024 * 1024;
const NEWLINE = 0x0a;

/**
 * A part of the measurement list from entry `firstEntry` to the end at one moment. A name that is not UTF-8 is text by
 * `decodeUtf8` (each stray byte becomes U+DC00 + byte), so that JSON can carry it and nothing of it is lost.
 */
export type ListPart = {
  readonly firstEntry: number;
  readonly content:
    | { readonly kind: 'text'; readonly text: string }
    /** `pieces` may be walked once; `release` must be called when they are not needed any more. */
    | { readonly kind: 'pieces'; readonly pieces: Generator<string>; readonly release: () => void };
};

/** What the agent needs of a measurement list. */
export type MeasurementList = {
  /**
   * The list from entry `from` on, the whole list if it has fewer entries than `from`, or `undefined` if there is no list
   * that can be opened. Entries are lines; a last line without newline is sent but not counted, so that it comes again.
   * @throws an `Error` with a system `code` if an open list cannot be read; AgentError `list_position_unknown`,
   * `list_changing`.
   */
  readonly readFrom: (from: number) => Promise<ListPart | undefined>;
  /** How many entries there were since the boot, those that were removed meanwhile among them. Otherwise as `readFrom`. */
  readonly countEntries: () => Promise<number | undefined>;
  readonly close: () => void;
};

/**
 * The measurement list at `path` (`ascii_runtime_measurements`, one entry a line), opened at once so that it stays readable
 * after privileges are dropped; a list that cannot be opened is tried again at each reading. `unreadable` is told why, once
 * for each time that the list goes away. `position` is kept where records can be removed from the list.
 */
export function openMeasurementList(
  path: string,
  position: PositionFile,
  unreadable: (cause: unknown) => void,
): MeasurementList {
  if (isTrimmable(path)) return openTrimmedList(path, position, unreadable);
  const one = exclusive();
  let told = false;

  const open = (): OpenList | undefined => {
    try {
      const opened = new OpenList(path);
      told = false;
      return opened;
    } catch (cause) {
      if (!told) unreadable(cause);
      told = true;
      return undefined;
    }
  };
  let list = open();

  const scanned = async (): Promise<OpenList | undefined> => {
    if (list?.isReplaced()) {
      list.retire();
      list = undefined;
    }
    list ??= open();
    await list?.scan(() => nextTurn());
    return list;
  };

  return {
    readFrom: (from) =>
      one(async () => {
        const current = await scanned();
        return current && partOf(current, from <= current.entries ? from : 0);
      }),
    countEntries: () => one(async () => (await scanned())?.entries),
    close: () => {
      list?.retire();
      list = undefined;
    },
  };
}

function partOf(list: OpenList, firstEntry: number): ListPart {
  const { scannedTo } = list;
  const from = list.offsetOf(firstEntry);
  if (scannedTo - from <= INLINE_BYTES && list.isInWindow(from)) {
    return { firstEntry, content: { kind: 'text', text: decodeUtf8(Buffer.concat([...list.bytes(from, scannedTo)])) } };
  }
  list.retain();
  let released = false;
  const release = () => {
    if (!released) list.release();
    released = true;
  };
  return { firstEntry, content: { kind: 'pieces', pieces: textPieces(list.bytes(from, scannedTo)), release } };
}

/** The text of `chunks`, cut at line ends so that no character and no stray byte is torn. */
function* textPieces(chunks: Iterable<Buffer>): Generator<string> {
  let torn: Buffer[] = [];
  for (const chunk of chunks) {
    const end = chunk.lastIndexOf(NEWLINE) + 1;
    if (end === 0) {
      torn.push(chunk);
      continue;
    }
    yield decodeUtf8(Buffer.concat([...torn, chunk.subarray(0, end)]));
    torn = [chunk.subarray(end)];
  }
  yield decodeUtf8(Buffer.concat(torn));
}
