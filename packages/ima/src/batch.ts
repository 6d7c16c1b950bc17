import { digestSize } from '@keylime/core/digest';
import { parseImaLine } from './entry.ts';
import type { KnownLines } from './known-lines.ts';
import { BATCH, LONGEST_MESSAGE, MEMORY } from './list-memory.ts';
import type { ListReader } from './list-reader.ts';
import { decodeUtf8 } from './list-text.ts';
import { extendValue, type ImaLine, type ImaListPart, isViolation } from './replay.ts';
import type { ImaVisitor } from './scan.ts';
import { hashMessages, type Scratch, setWords } from './scratch.ts';

/** Instead of the number of a message: a line that is equal to a known one, or was read plainly. */
const KNOWN = -1;
const PLAIN = -2;

const NEWLINE = '\n'.charCodeAt(0);
const MESSAGE_ROOM = MEMORY.messagesEnd - LONGEST_MESSAGE;

/** Whether this list can be read the fast way. */
export function isFast({ bank, logHashAlgorithm, extendMode = 'bank', runningPcr, quotedPcr }: ImaListPart): boolean {
  if (bank !== 'sha256' || (logHashAlgorithm !== 'sha1' && logHashAlgorithm !== 'sha256')) return false;
  return extendMode === 'bank' && runningPcr.length === 32 && quotedPcr.length === 32;
}

/** Up to 512 entries of a list, hashed: those with which the window of the reader begins. */
export class Batch {
  entryCount = 0;
  /** Address behind the last entry, in the window. */
  readonly end: number;
  readonly #reader: ListReader;
  readonly #scratch: Scratch;
  readonly #part: ImaListPart;
  readonly #firstIndex: number;
  readonly #known: KnownLines | undefined;
  readonly #columnChars: number;
  readonly #plainLines = new Map<number, ImaLine>();
  /** Entries that cannot be read: they extend nothing. */
  readonly #unreadable: number[] = [];
  #messageCount = 0;

  constructor(reader: ListReader, scratch: Scratch, part: ImaListPart, firstIndex: number, known?: KnownLines) {
    this.#reader = reader;
    this.#scratch = scratch;
    this.#known = known;
    this.#part = part;
    this.#firstIndex = firstIndex;
    this.#columnChars = 2 * digestSize(part.logHashAlgorithm);
    this.end = this.#read();
    this.#hash();
  }

  #read(): number {
    const { module, bytes, words, messageNumbers, lineStarts } = this.#scratch;
    const reader = this.#reader;
    messageNumbers.fill(KNOWN);
    // The first entry of a list is not taken as known, and so it is alone: what comes after it may be known as a whole.
    const known = this.#firstIndex === 0 ? undefined : this.#known;
    const most = this.#known && known === undefined ? 1 : BATCH;
    let at: number = MEMORY.window;
    let out: number = MEMORY.messages;
    while (at < reader.end && this.entryCount < most && out < MESSAGE_ROOM) {
      if (known) {
        const place = this.#placeOfNext();
        this.entryCount = module.matchLines(at, reader.end, this.entryCount, BATCH, place, known.mask);
        at = words[MEMORY.stoppedAt >> 2] as number;
        if (at >= reader.end || this.entryCount === most) break;
      }
      if (bytes[at] === NEWLINE) {
        at++;
        continue;
      }
      const before = this.entryCount;
      const stop = known ? before + 1 : most;
      const place = this.#placeOfNext();
      this.entryCount = module.readFiles(at, before, stop, this.#messageCount, place, out, this.#columnChars);
      if (this.entryCount > before) {
        this.#messageCount += this.entryCount - before;
        at = words[MEMORY.stoppedAt >> 2] as number;
        out = words[MEMORY.messagesTo >> 2] as number;
        continue;
      }
      const newline = reader.lineEnd(at);
      const isCut = newline === undefined && reader.goesOn;
      // What is cut off by the end of the window comes first in the next one.
      if (isCut && at > MEMORY.window) break;
      const line = isCut ? reader.takeLongLine() : Buffer.from(bytes.subarray(at, newline ?? reader.end));
      lineStarts[this.entryCount] = at;
      this.#readPlainly(this.entryCount++, line, place);
      at = newline === undefined ? reader.end : newline + 1;
    }
    return Math.min(at, reader.end);
  }

  get #digestCount(): number {
    return this.entryCount - this.#unreadable.length;
  }

  /** Where the digest of the next entry goes. */
  #placeOfNext(): number {
    return MEMORY.bankDigests + 32 * this.#digestCount;
  }

  /** Any line: parsed and hashed by the functions that the plain replay uses. */
  #readPlainly(entry: number, line: Buffer, place: number): void {
    const { bank, logHashAlgorithm } = this.#part;
    const parsed = parseImaLine(line);
    const index = this.#firstIndex + entry;
    this.#scratch.messageNumbers[entry] = PLAIN;
    if (!parsed.ok) {
      this.#plainLines.set(entry, { index, line, parsed, violation: false });
      this.#unreadable.push(entry);
      return;
    }
    const violation = isViolation(parsed.value, logHashAlgorithm);
    const computedHash = Buffer.from(extendValue(parsed.value, false, logHashAlgorithm, 'bank')).toString('hex');
    this.#plainLines.set(entry, { index, line, parsed, computedHash, violation });
    setWords(this.#scratch, place, extendValue(parsed.value, violation, bank, 'bank'));
  }

  /** Hashes the messages; a line whose column shows anything else than the hash is read plainly, which tells what it is. */
  #hash(): void {
    const { module, messageNumbers, places } = this.#scratch;
    const count = this.#messageCount;
    const columns = hashMessages(this.#scratch, count, this.#columnChars === 40 ? 'sha1' : 'sha256');
    const lastBytes = this.#columnChars / 2 - 16;
    for (let wrong = 0; ; wrong++) {
      wrong = module.firstWrongColumn(wrong, count, columns, lastBytes);
      if (wrong === count) break;
      const entry = messageNumbers.indexOf(wrong);
      this.#readPlainly(entry, this.#lineOf(entry), places[wrong] as number);
      if (this.#plainLines.get(entry)?.parsed.ok === false) this.#leaveOut(places[wrong] as number);
    }
  }

  /** Takes a digest out of those that are extended: that of an entry that looked readable and is not. */
  #leaveOut(place: number): void {
    const { bytes, places } = this.#scratch;
    // The entry is counted among the unreadable ones already.
    bytes.copyWithin(place, place + 32, MEMORY.bankDigests + 32 * (this.#digestCount + 1));
    for (let message = 0; message < this.#messageCount; message++) {
      if ((places[message] as number) > place) places[message] = (places[message] as number) - 32;
    }
    this.#unreadable.sort((a, b) => a - b);
  }

  /** What the entries of the batch extend by, 8 words each, until the next batch is read. */
  get digests(): Uint32Array {
    const from = MEMORY.bankDigests >> 2;
    return this.#scratch.words.subarray(from, from + 8 * this.#digestCount);
  }

  /** How many entries it takes to extend `count` times. */
  entriesOf(count: number): number {
    let last = count - 1;
    for (const entry of this.#unreadable) if (entry <= last) last++;
    return last + 1;
  }

  /** Whether each entry is equal to a known line, so that none needs to be shown. */
  get isKnown(): boolean {
    return this.entryCount > 0 && this.#messageCount === 0 && this.#plainLines.size === 0;
  }

  /** Asks `visitor` about the files that are not known; returns what it is to see as lines. */
  linesFor(visitor: ImaVisitor): readonly ImaLine[] {
    const lines: ImaLine[] = [];
    const { bytes, view, messageNumbers, digestStarts, pathStarts, pathEnds, wide } = this.#scratch;
    const { excludes, listed } = visitor;
    let text: string | undefined;
    for (let entry = 0; entry < this.entryCount; entry++) {
      const message = messageNumbers[entry] as number;
      if (message === KNOWN) continue;
      const plain = message === PLAIN ? this.#plainLines.get(entry) : undefined;
      if (plain !== undefined) {
        lines.push(plain);
        continue;
      }
      const pathStart = pathStarts[message] as number;
      const pathEnd = pathEnds[message] as number;
      const digestStart = digestStarts[message] as number;
      if (this.#firstIndex + entry > 0) {
        if (this.#known && wide[message] === 0 && excludes?.(bytes, pathStart, pathEnd)) continue;
        if (listed?.(view, pathStart, pathEnd, digestStart, pathStart - 1)) continue;
      }
      // One text of the whole batch, of which paths and digests are parts, is cheaper than a text for each.
      text ??= bytes.toString('latin1', MEMORY.window, this.end);
      const path = wide[message]
        ? decodeUtf8(bytes.subarray(pathStart, pathEnd))
        : text.substring(pathStart - MEMORY.window, pathEnd - MEMORY.window);
      const hex = text.substring(digestStart - MEMORY.window, pathStart - 1 - MEMORY.window);
      if (!visitor.file(this.#firstIndex + entry, path, hex)) lines.push(this.#wholeLine(entry, message));
    }
    return lines;
  }

  /** A line whose column is right. */
  #wholeLine(entry: number, message: number): ImaLine {
    const start = this.#scratch.columnStarts[message] as number;
    const computedHash = this.#scratch.bytes.toString('latin1', start, start + this.#columnChars);
    const line = this.#lineOf(entry);
    return { index: this.#firstIndex + entry, line, parsed: parseImaLine(line), computedHash, violation: false };
  }

  #lineOf(entry: number): Buffer {
    const start = this.#scratch.lineStarts[entry] as number;
    return Buffer.from(this.#scratch.bytes.subarray(start, this.#reader.lineEnd(start) ?? this.#reader.end));
  }
}
