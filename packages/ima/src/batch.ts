import { digestSize } from '@keylime/core/digest';
import { parseImaLine } from './entry.ts';
import type { KnownLines } from './known-lines.ts';
import { decodeUtf8 } from './list-text.ts';
import { extendValue, type ImaLine, type ImaListPart, isViolation } from './replay.ts';
import type { ImaVisitor } from './scan.ts';
import { BATCH, LONGEST_MESSAGE, MEMORY, makeShaModule, type ShaModule } from './sha-module.ts';

/** Memory that one batch at a time works in: nothing in it outlives the batch. */
export type Scratch = {
  readonly sha: ShaModule;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** By entry of the batch: its place among the digests, or -1 for a line that cannot be read. */
  readonly slots: Int32Array;
  /** By entry: its message's number, or `KNOWN` or `PLAIN`. */
  readonly messages: Int32Array;
  /** By entry: offset in the list. */
  readonly lineStarts: Uint32Array;
  /** By message: its entry's place among the digests, offsets of digest and path in the list, whether the path is not ASCII. */
  readonly messageSlots: Int32Array;
  readonly digestStarts: Int32Array;
  readonly pathStarts: Int32Array;
  readonly pathEnds: Int32Array;
  readonly wide: Uint8Array;
  /** By message: the template hash column, 8 words each. */
  readonly columns: Uint32Array;
};

/** A line that is equal to a known one. */
const KNOWN = -1;
/** A line that was read plainly. */
const PLAIN = -2;

let shared: Scratch | null | undefined;

/** The one scratch of those who know no lines; `undefined` on processors without the fast way. */
export function sharedScratch(): Scratch | undefined {
  if (shared === undefined) shared = makeScratch() ?? null;
  return shared ?? undefined;
}

/** Whether this list can be read the fast way. */
export function isFast({ bank, logHashAlgorithm, extendMode = 'bank', runningPcr, quotedPcr }: ImaListPart): boolean {
  if (bank !== 'sha256' || (logHashAlgorithm !== 'sha1' && logHashAlgorithm !== 'sha256')) return false;
  return extendMode === 'bank' && runningPcr.length === 32 && quotedPcr.length === 32;
}

/** With room for `knownBytes` of known lines. */
export function makeScratch(knownBytes = 0): Scratch | undefined {
  const sha = makeShaModule(knownBytes);
  return (
    sha && {
      sha,
      bytes: new Uint8Array(sha.memory),
      words: new Uint32Array(sha.memory, 0, sha.memory.byteLength >> 2),
      slots: new Int32Array(BATCH),
      messages: new Int32Array(BATCH),
      lineStarts: new Uint32Array(sha.memory, MEMORY.lineStarts, BATCH),
      messageSlots: new Int32Array(BATCH),
      digestStarts: new Int32Array(BATCH),
      pathStarts: new Int32Array(BATCH),
      pathEnds: new Int32Array(BATCH),
      wide: new Uint8Array(BATCH),
      columns: new Uint32Array(8 * BATCH),
    }
  );
}

/** Values of lower-case hex digits by character code; negative for other characters. */
const HEX = Int8Array.from({ length: 256 }, (_, code) => '0123456789abcdef'.indexOf(String.fromCharCode(code)));

/** The algorithms of file digests that are read fast, told apart by the fourth character of their names. */
const DIGEST_FIELDS = (['sha256', 'sha1', 'sha384', 'sha512'] as const).map((name) => {
  const size = digestSize(name);
  const lead = Buffer.from(`\0\0\0\0${name}:\0`, 'latin1');
  lead.writeUInt32LE(lead.length - 4 + size);
  return { code: name.charCodeAt(3), prefix: Buffer.from(`${name}:`), lead, size };
});

/** No field before the path reaches further from the start of a line. */
const LONGEST_HEAD = 300;
const LONGEST_NAME = 4096;
const LONGEST_BATCH = 1 << 20;
/** Where the template hash stands in a line of PCR 10. */
const COLUMN_START = 3;
const SPACE = 0x20;
const NEWLINE = 0x0a;

/** Up to 512 entries of a list, hashed. */
export class Batch {
  /** Offset in the list behind the batch. */
  readonly end: number;
  entryCount = 0;
  readonly #scratch: Scratch;
  readonly #part: ImaListPart;
  readonly #firstIndex: number;
  readonly #known: KnownLines | undefined;
  readonly #columnWords: number;
  readonly #plainLines = new Map<number, ImaLine>();
  readonly #plainDigests = new Map<number, Uint8Array>();
  #slotCount = 0;
  #messageCount = 0;
  #message: number = MEMORY.messages;
  #digestStart = 0;
  #pathStart = 0;
  #pathEnd = 0;
  #wide = 0;

  constructor(scratch: Scratch, part: ImaListPart, start: number, firstIndex: number, known?: KnownLines) {
    this.#scratch = scratch;
    this.#known = known;
    this.#part = part;
    this.#firstIndex = firstIndex;
    this.#columnWords = digestSize(part.logHashAlgorithm) / 4;
    this.end = this.#read(start);
    this.#hash();
  }

  #read(start: number): number {
    const { list } = this.#part;
    const { slots, messages, lineStarts, messageSlots, digestStarts, pathStarts, pathEnds, wide } = this.#scratch;
    const length = list.length;
    const stop = Math.min(length, start + (this.#known ? MEMORY.windowBytes : LONGEST_BATCH));
    if (this.#known) this.#scratch.bytes.set(list.subarray(start, stop), MEMORY.window);
    let at = start;
    // The first entry of a list is not taken as known, and so it is alone: what comes after it may be known as a whole.
    const most = this.#known && this.#firstIndex === 0 ? 1 : BATCH;
    while (at < stop && this.entryCount < most && this.#message < MEMORY.messagesEnd - LONGEST_MESSAGE) {
      if (list[at] === NEWLINE) {
        at++;
        continue;
      }
      if (this.#known && most > 1) {
        const matchedTo = this.#matchKnown(this.#known, start, at, stop);
        if (matchedTo > at) {
          at = matchedTo;
          continue;
        }
      }
      const entry = this.entryCount++;
      lineStarts[entry] = at;
      const end = at + LONGEST_HEAD < length ? this.#readFile(at) : -1;
      if (end >= 0) {
        const message = this.#messageCount++;
        slots[entry] = this.#slotCount;
        messages[entry] = message;
        messageSlots[message] = this.#slotCount++;
        digestStarts[message] = this.#digestStart;
        pathStarts[message] = this.#pathStart;
        pathEnds[message] = this.#pathEnd;
        wide[message] = this.#wide;
        at = end + 1;
        continue;
      }
      const newline = list.indexOf(NEWLINE, at);
      const lineEnd = newline < 0 ? length : newline;
      this.#readPlainly(entry, list.subarray(at, lineEnd));
      at = lineEnd + 1;
    }
    return Math.min(at, length);
  }

  /** Takes the lines from `at` on that are known; returns where the first that is not begins. */
  #matchKnown({ mask }: KnownLines, start: number, at: number, stop: number): number {
    const { sha, slots, messages, words } = this.#scratch;
    const bias = start - MEMORY.window;
    const digests = MEMORY.bankDigests + 32 * this.#slotCount;
    const count = sha.matchLines(at - bias, stop - bias, this.entryCount, BATCH, bias, digests, mask);
    while (this.entryCount < count) {
      messages[this.entryCount] = KNOWN;
      slots[this.entryCount++] = this.#slotCount++;
    }
    return (words[MEMORY.matchedTo >> 2] as number) + bias;
  }

  /** Any line: parsed and hashed by the functions that the plain replay uses. */
  #readPlainly(entry: number, line: Uint8Array): void {
    const { bank, logHashAlgorithm } = this.#part;
    const parsed = parseImaLine(line);
    const index = this.#firstIndex + entry;
    this.#scratch.slots[entry] = -1;
    this.#scratch.messages[entry] = PLAIN;
    if (!parsed.ok) {
      this.#plainLines.set(entry, { index, line, parsed, violation: false });
      return;
    }
    const violation = isViolation(parsed.value, logHashAlgorithm);
    const computedHash = Buffer.from(extendValue(parsed.value, false, logHashAlgorithm, 'bank')).toString('hex');
    this.#plainLines.set(entry, { index, line, parsed, computedHash, violation });
    const slot = this.#slotCount++;
    this.#scratch.slots[entry] = slot;
    this.#plainDigests.set(slot, extendValue(parsed.value, violation, bank, 'bank'));
  }

  /**
   * Reads a file's line at `start` into a padded SHA message. Returns the offset of its end, or -1 where anything is out
   * of the ordinary: then the line has to be read plainly, which tells what is wrong, if it is.
   */
  #readFile(start: number): number {
    const { list } = this.#part;
    const { bytes, words, columns } = this.#scratch;
    const length = list.length;
    if (list[start] !== 0x31 || list[start + 1] !== 0x30 || list[start + 2] !== SPACE) return -1;
    let at = start + 3;
    let invalid = 0;

    let anyBit = 0;
    const column = this.#messageCount * 8;
    for (let i = 0; i < this.#columnWords; i++) {
      let word = 0;
      for (let digit = 0; digit < 8; digit++) {
        const value = HEX[list[at++] as number] as number;
        invalid |= value;
        word = (word << 4) | value;
      }
      columns[column + i] = word;
      anyBit |= word;
    }
    // A column of zeros is a violation.
    if (invalid < 0 || anyBit === 0) return -1;

    if (list[at] !== SPACE || list[at + 1] !== 0x69 || list[at + 2] !== 0x6d || list[at + 3] !== 0x61) return -1;
    if (list[at + 4] !== 0x2d) return -1;
    const signed = list[at + 5] === 0x73;
    if (signed) {
      if (list[at + 6] !== 0x69 || list[at + 7] !== 0x67 || list[at + 8] !== SPACE) return -1;
      at += 9;
    } else {
      if (list[at + 5] !== 0x6e || list[at + 6] !== 0x67 || list[at + 7] !== SPACE) return -1;
      at += 8;
    }

    const code = list[at + 3];
    let field = DIGEST_FIELDS[0];
    for (let i = 1; field !== undefined && field.code !== code; i++) field = DIGEST_FIELDS[i];
    if (field === undefined) return -1;
    const { prefix, lead, size } = field;
    for (let i = 0; i < prefix.length; i++) if (list[at++] !== prefix[i]) return -1;
    const message = this.#message;
    let out = message;
    for (let i = 0; i < lead.length; i++) bytes[out++] = lead[i] as number;
    this.#digestStart = at;
    for (let i = 0; i < size; i++) {
      const value = ((HEX[list[at] as number] as number) << 4) | (HEX[list[at + 1] as number] as number);
      invalid |= value;
      bytes[out++] = value;
      at += 2;
    }
    if (invalid < 0 || list[at++] !== SPACE) return -1;

    this.#pathStart = at;
    const nameLength = out;
    out += 4;
    const terminator = signed ? SPACE : NEWLINE;
    const limit = Math.min(length, at + LONGEST_NAME);
    let seen = 0;
    for (; at < limit; at++) {
      const byte = list[at] as number;
      if (byte === terminator || byte === NEWLINE || byte === 0) break;
      bytes[out++] = byte;
      seen |= byte;
    }
    this.#pathEnd = at;
    this.#wide = seen & 0x80;
    bytes[out++] = 0;
    const named = this.#pathEnd - this.#pathStart + 1;
    bytes[nameLength] = named;
    bytes[nameLength + 1] = named >> 8;
    bytes[nameLength + 2] = 0;
    bytes[nameLength + 3] = 0;
    if (at >= length ? signed : list[at] !== terminator) return -1;

    if (signed) {
      const signature = out + 4;
      out = signature;
      at++;
      const signatureLimit = Math.min(length, at + 2 * LONGEST_NAME);
      while (at + 1 < signatureLimit && list[at] !== NEWLINE) {
        const value = ((HEX[list[at] as number] as number) << 4) | (HEX[list[at + 1] as number] as number);
        invalid |= value;
        bytes[out++] = value;
        at += 2;
      }
      const signatureLength = out - signature;
      if (invalid < 0 || (at < length && list[at] !== NEWLINE)) return -1;
      // The shape of `isSignatureShaped`.
      if (signatureLength > 0) {
        const said = ((bytes[signature + 7] as number) << 8) | (bytes[signature + 8] as number);
        const type = bytes[signature] as number;
        if (type !== 3 && type !== 5 && type !== 6) return -1;
        if (signatureLength < 9 || signatureLength !== 9 + said) return -1;
      }
      bytes[signature - 4] = signatureLength;
      bytes[signature - 3] = signatureLength >> 8;
      bytes[signature - 2] = 0;
      bytes[signature - 1] = 0;
    }

    const bits = 8 * (out - message);
    const blocks = (out - message + 9 + 63) >> 6;
    this.#message = message + 64 * blocks;
    bytes[out++] = 0x80;
    while (out & 3) bytes[out++] = 0;
    for (let i = out >> 2; i < (this.#message >> 2) - 1; i++) words[i] = 0;
    bytes[this.#message - 4] = 0;
    bytes[this.#message - 3] = bits >> 16;
    bytes[this.#message - 2] = bits >> 8;
    bytes[this.#message - 1] = bits;
    words[(MEMORY.addresses >> 2) + this.#messageCount] = message;
    words[(MEMORY.counts >> 2) + this.#messageCount] = blocks;
    return at;
  }

  #hash(): void {
    const { sha, words, bytes, messageSlots } = this.#scratch;
    const count = this.#messageCount;
    const groups = Math.ceil(count / 4);
    if (groups > 0) {
      words.fill(0, (MEMORY.counts >> 2) + count, (MEMORY.counts >> 2) + 4 * groups);
      sha.sha256(MEMORY.messageDigests, groups);
      if (this.#part.logHashAlgorithm === 'sha1') sha.sha1(MEMORY.columnDigests, groups);
      else bytes.copyWithin(MEMORY.columnDigests, MEMORY.messageDigests, MEMORY.messageDigests + 32 * count);
    }
    for (let message = 0; message < count; message++) {
      const from = (MEMORY.messageDigests >> 2) + 8 * message;
      const to = (MEMORY.bankDigests >> 2) + 8 * (messageSlots[message] as number);
      for (let i = 0; i < 8; i++) words[to + i] = words[from + i] as number;
    }
    for (const [slot, value] of this.#plainDigests) setWords(words, (MEMORY.bankDigests >> 2) + 8 * slot, value);
  }

  /**
   * Extends `running` in place with the entries of the batch up to the first one that gives the quoted value, and tells
   * how many entries those are.
   */
  extend(running: Buffer): number | undefined {
    const { sha, words, slots } = this.#scratch;
    if (this.#slotCount === 0) return undefined;
    setWords(words, MEMORY.pcr >> 2, running);
    setWords(words, MEMORY.quotedPcr >> 2, this.#part.quotedPcr);
    const extended = sha.extend(MEMORY.bankDigests, this.#slotCount);
    for (let i = 0; i < 8; i++) running.writeUInt32BE(words[(MEMORY.pcr >> 2) + i] as number, 4 * i);
    return extended === 0 ? undefined : slots.subarray(0, this.entryCount).indexOf(extended - 1) + 1;
  }

  /** Whether each entry is equal to a known line, so that none needs to be shown. */
  get isKnown(): boolean {
    return this.entryCount > 0 && this.#messageCount === 0 && this.#plainLines.size === 0;
  }

  /** The first word of the PCR after each entry, once all were extended. */
  get runningWords(): Uint32Array {
    return this.#scratch.words.subarray(MEMORY.running >> 2, (MEMORY.running >> 2) + this.#slotCount);
  }

  /** Adds the files of the batch to `known`, each with the column that is right for it. */
  learn(known: KnownLines): void {
    const { messages, lineStarts, words } = this.#scratch;
    const { list } = this.#part;
    for (let entry = 0; entry < this.entryCount; entry++) {
      const message = messages[entry] as number;
      if (message < 0) continue;
      const start = lineStarts[entry] as number;
      const line = Buffer.from(list.subarray(start, this.#lineEnd(start) + 1));
      line.write(this.#columnOf(message), COLUMN_START, 'latin1');
      known.add(line, words, (MEMORY.messageDigests >> 2) + 8 * message);
    }
  }

  /** Shows the first `count` entries, or all; not those that are known. */
  visit(visitor: ImaVisitor, count = this.entryCount): void {
    const { messages, lineStarts, digestStarts, pathStarts, pathEnds, wide } = this.#scratch;
    const { list } = this.#part;
    if (count === 0) return;
    const base = lineStarts[0] as number;
    let text: string | undefined;
    for (let entry = 0; entry < count; entry++) {
      const message = messages[entry] as number;
      if (message === KNOWN) continue;
      const plain = message === PLAIN ? this.#plainLines.get(entry) : undefined;
      if (plain !== undefined) {
        visitor.line(plain);
        continue;
      }
      if (!this.#columnIsRight(message)) {
        visitor.line(this.#wholeLine(entry, message));
        continue;
      }
      // One text of the whole batch, of which paths and digests are parts, is cheaper than a text for each.
      text ??= Buffer.from(list.buffer, list.byteOffset + base, this.end - base).toString('latin1');
      const pathStart = pathStarts[message] as number;
      const pathEnd = pathEnds[message] as number;
      const path = wide[message]
        ? decodeUtf8(list.subarray(pathStart, pathEnd))
        : text.substring(pathStart - base, pathEnd - base);
      const hex = text.substring((digestStarts[message] as number) - base, pathStart - 1 - base);
      if (!visitor.file(this.#firstIndex + entry, path, hex)) visitor.line(this.#wholeLine(entry, message));
    }
  }

  #columnIsRight(message: number): boolean {
    const { words, columns } = this.#scratch;
    const computed = (MEMORY.columnDigests >> 2) + 8 * message;
    for (let i = 0; i < this.#columnWords; i++) if (words[computed + i] !== columns[8 * message + i]) return false;
    return true;
  }

  /** The template hash of a message, as the column should have it. */
  #columnOf(message: number): string {
    const computed = (MEMORY.columnDigests >> 2) + 8 * message;
    const words = this.#scratch.words.subarray(computed, computed + this.#columnWords);
    return Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
  }

  #wholeLine(entry: number, message: number): ImaLine {
    const { list } = this.#part;
    const start = this.#scratch.lineStarts[entry] as number;
    const line = list.subarray(start, this.#lineEnd(start));
    const computedHash = this.#columnOf(message);
    return { index: this.#firstIndex + entry, line, parsed: parseImaLine(line), computedHash, violation: false };
  }

  #lineEnd(start: number): number {
    const newline = this.#part.list.indexOf(NEWLINE, start);
    return newline < 0 ? this.#part.list.length : newline;
  }

  /** Offset in the list behind the first `count` entries. */
  offsetAfter(count: number): number {
    return count < this.entryCount ? (this.#scratch.lineStarts[count] as number) : this.end;
  }
}

/** Big-endian bytes as words. */
function setWords(words: Uint32Array, at: number, value: Uint8Array): void {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  for (let i = 0; i < value.length / 4; i++) words[at + i] = view.getUint32(4 * i);
}
