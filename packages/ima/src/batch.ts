import { digestSize } from '@keylime/core/digest';
import { parseImaLine } from './entry.ts';
import type { KnownEntries } from './known-entries.ts';
import { decodeUtf8 } from './list-text.ts';
import { extendValue, type ImaLine, type ImaListPart, isViolation } from './replay.ts';
import type { ImaVisitor } from './scan.ts';
import { BATCH, compileShaModule, LONGEST_MESSAGE, MEMORY, type ShaModule } from './sha-module.ts';

/** Memory that one batch at a time works in: nothing in it outlives the batch. */
export type Scratch = {
  readonly sha: ShaModule;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  /** By entry of the batch: its message's number or -1, offsets of line, digest and path in the list, whether the path is not ASCII. */
  readonly slots: Int32Array;
  readonly lineStarts: Int32Array;
  readonly digestStarts: Int32Array;
  readonly pathStarts: Int32Array;
  readonly pathEnds: Int32Array;
  readonly wide: Uint8Array;
  /** By message: the template hash column, 8 words each. */
  readonly columns: Uint32Array;
};

let sharedScratch: Scratch | null | undefined;

export function scratchFor(part: ImaListPart): Scratch | undefined {
  const { bank, logHashAlgorithm, extendMode = 'bank', runningPcr, quotedPcr } = part;
  if (bank !== 'sha256' || (logHashAlgorithm !== 'sha1' && logHashAlgorithm !== 'sha256')) return undefined;
  if (extendMode !== 'bank' || runningPcr.length !== 32 || quotedPcr.length !== 32) return undefined;
  if (sharedScratch === undefined) sharedScratch = makeScratch() ?? null;
  return sharedScratch ?? undefined;
}

function makeScratch(): Scratch | undefined {
  const sha = compileShaModule();
  return (
    sha && {
      sha,
      bytes: new Uint8Array(sha.memory),
      words: new Uint32Array(sha.memory),
      slots: new Int32Array(BATCH),
      lineStarts: new Int32Array(BATCH),
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
  readonly #columnWords: number;
  readonly #plainLines = new Map<number, ImaLine>();
  readonly #plainDigests = new Map<number, Uint8Array>();
  #slotCount = 0;
  #message: number = MEMORY.messages;
  #digestStart = 0;
  #pathStart = 0;
  #pathEnd = 0;
  #wide = 0;

  constructor(scratch: Scratch, part: ImaListPart, start: number, firstIndex: number) {
    this.#scratch = scratch;
    this.#part = part;
    this.#firstIndex = firstIndex;
    this.#columnWords = digestSize(part.logHashAlgorithm) / 4;
    this.end = this.#read(start);
    this.#hash();
  }

  #read(start: number): number {
    const { list } = this.#part;
    const { slots, lineStarts, digestStarts, pathStarts, pathEnds, wide } = this.#scratch;
    const length = list.length;
    const stop = Math.min(length, start + LONGEST_BATCH);
    let at = start;
    while (at < stop && this.entryCount < BATCH && this.#message < MEMORY.messagesEnd - LONGEST_MESSAGE) {
      if (list[at] === NEWLINE) {
        at++;
        continue;
      }
      const entry = this.entryCount++;
      lineStarts[entry] = at;
      const end = at + LONGEST_HEAD < length ? this.#readFile(at) : -1;
      if (end >= 0) {
        slots[entry] = this.#slotCount++;
        digestStarts[entry] = this.#digestStart;
        pathStarts[entry] = this.#pathStart;
        pathEnds[entry] = this.#pathEnd;
        wide[entry] = this.#wide;
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

  /** Any line: parsed and hashed by the functions that the plain replay uses. */
  #readPlainly(entry: number, line: Uint8Array): void {
    const { bank, logHashAlgorithm } = this.#part;
    const parsed = parseImaLine(line);
    const index = this.#firstIndex + entry;
    this.#scratch.slots[entry] = -1;
    if (!parsed.ok) {
      this.#plainLines.set(entry, { index, line, parsed, violation: false });
      return;
    }
    const violation = isViolation(parsed.value, logHashAlgorithm);
    const computedHash = Buffer.from(extendValue(parsed.value, false, logHashAlgorithm, 'bank')).toString('hex');
    this.#plainLines.set(entry, { index, line, parsed, computedHash, violation });
    const slot = this.#slotCount++;
    this.#scratch.slots[entry] = slot;
    this.#scratch.words[(MEMORY.counts >> 2) + slot] = 0;
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
    const column = this.#slotCount * 8;
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
    words[(MEMORY.addresses >> 2) + this.#slotCount] = message;
    words[(MEMORY.counts >> 2) + this.#slotCount] = blocks;
    return at;
  }

  #hash(): void {
    const { sha, words, bytes } = this.#scratch;
    const groups = Math.ceil(this.#slotCount / 4);
    if (groups === 0) return;
    words.fill(0, (MEMORY.counts >> 2) + this.#slotCount, (MEMORY.counts >> 2) + 4 * groups);
    sha.sha256(MEMORY.bankDigests, groups);
    if (this.#part.logHashAlgorithm === 'sha1') sha.sha1(MEMORY.columnDigests, groups);
    else bytes.copyWithin(MEMORY.columnDigests, MEMORY.bankDigests, MEMORY.bankDigests + 32 * this.#slotCount);
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

  /** Adds the files of the batch to `known`; what was not read as a file is left out. */
  learn(known: KnownEntries): void {
    const { slots, words } = this.#scratch;
    for (let entry = 0; entry < this.entryCount; entry++) {
      if (!this.#plainLines.has(entry)) known.add(words, (MEMORY.bankDigests >> 2) + 8 * (slots[entry] as number));
    }
  }

  /** Shows the first `count` entries, or all. */
  visit(visitor: ImaVisitor, count = this.entryCount): void {
    const { slots, lineStarts, digestStarts, pathStarts, pathEnds, wide, words } = this.#scratch;
    const { list } = this.#part;
    const { known } = visitor;
    if (count === 0) return;
    const base = lineStarts[0] as number;
    let text: string | undefined;
    for (let entry = 0; entry < count; entry++) {
      const index = this.#firstIndex + entry;
      const plain = this.#plainLines.size === 0 ? undefined : this.#plainLines.get(entry);
      if (plain !== undefined) {
        visitor.line(plain);
        continue;
      }
      const slot = slots[entry] as number;
      if (!this.#columnIsRight(slot)) {
        visitor.line(this.#wholeLine(entry, slot));
        continue;
      }
      if (index > 0 && known?.has(words, (MEMORY.bankDigests >> 2) + 8 * slot)) continue;
      // One text of the whole batch, of which paths and digests are parts, is cheaper than a text for each.
      text ??= Buffer.from(list.buffer, list.byteOffset + base, this.end - base).toString('latin1');
      const pathStart = pathStarts[entry] as number;
      const pathEnd = pathEnds[entry] as number;
      const path = wide[entry]
        ? decodeUtf8(list.subarray(pathStart, pathEnd))
        : text.substring(pathStart - base, pathEnd - base);
      const hex = text.substring((digestStarts[entry] as number) - base, pathStart - 1 - base);
      if (!visitor.file(index, path, hex)) visitor.line(this.#wholeLine(entry, slot));
    }
  }

  #columnIsRight(slot: number): boolean {
    const { words, columns } = this.#scratch;
    const computed = (MEMORY.columnDigests >> 2) + 8 * slot;
    for (let i = 0; i < this.#columnWords; i++) if (words[computed + i] !== columns[8 * slot + i]) return false;
    return true;
  }

  #wholeLine(entry: number, slot: number): ImaLine {
    const { list } = this.#part;
    const start = this.#scratch.lineStarts[entry] as number;
    const line = list.subarray(start, this.#lineEnd(start));
    const computed = (MEMORY.columnDigests >> 2) + 8 * slot;
    const words = this.#scratch.words.subarray(computed, computed + this.#columnWords);
    const computedHash = Array.from(words, (word) => word.toString(16).padStart(8, '0')).join('');
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
