import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { KnownStretches } from './known-stretches.ts';
import { BATCH, MEMORY } from './list-memory.ts';
import { PLACE_BYTES, RECORD } from './match-lines.ts';
import { hashMessages, makeScratch, type Scratch } from './scratch.ts';

/** Larger policies are judged the ordinary way: room for about a million files. */
const MOST_BYTES = 256 * 1024 * 1024;
/** `10 `, ` ima-sig `, `sha256:`, a space, and the end of a line with an empty signature. */
const SEPARATORS = 24;
/** No kernel prints a longer path. */
const LONGEST_PATH = 4096;
const LONGEST_LINE = 3 * LONGEST_PATH + 1024;
const LAST_START = MEMORY.window + MEMORY.windowBytes - LONGEST_LINE;

/** Templates that measure a file; the signature of `ima-sig` entries is taken to be absent. */
export type FileTemplate = 'ima-ng' | 'ima-sig';

/** What lines of a list have in common: the template, and the algorithm of the template hash column. */
export type ListForm = { readonly template: FileTemplate; readonly logHashAlgorithm: HashAlgorithm };

/** Bytes of a line besides path and digest, at most. */
export const lineBytes = ({ logHashAlgorithm }: ListForm): number => SEPARATORS + 2 * digestSize(logHashAlgorithm);

/** What stands before the digest in a line, by the length of the digest in hex. */
function headsOf({ template, logHashAlgorithm }: ListForm): ReadonlyMap<number, Uint8Array> {
  // The column is filled in when it is known. This one is none of a violation.
  const start = `10 ${'1'.repeat(2 * digestSize(logHashAlgorithm))} ${template}`;
  return new Map(
    (['sha1', 'sha256', 'sha384', 'sha512'] as const).map((name) => [
      2 * digestSize(name),
      Buffer.from(`${start} ${name}:`),
    ]),
  );
}

/**
 * Lines that are known to be accepted, whole, with their SHA-256 template hashes: comparing a line with one of them takes
 * the place of reading, hashing and judging it. The room is that of the lines it was made for; nothing else gets in.
 */
export class KnownLines {
  readonly scratch: Scratch;
  /** Places of the table, less one. */
  readonly mask: number;
  readonly stretches = new KnownStretches();
  readonly #columnBytes: number;
  readonly #heads: ReadonlyMap<number, Uint8Array>;
  readonly #tail: string;
  /** Path and digest, one after the other, of files whose lines are in the window and not known yet. */
  #waiting: string[] = [];
  #windowTo: number = MEMORY.window;
  #free: number;

  private constructor(scratch: Scratch, places: number, form: ListForm) {
    this.scratch = scratch;
    this.mask = places - 1;
    this.#columnBytes = digestSize(form.logHashAlgorithm);
    this.#heads = headsOf(form);
    this.#tail = form.template === 'ima-sig' ? ' \n' : '\n';
    this.#free = MEMORY.known + PLACE_BYTES * places;
  }

  /**
   * Room for `count` files with `characters` in their paths and digests; somewhat more, for what is not ASCII. `undefined` if
   * that is too much, for columns that are not read the fast way, and on processors without it.
   */
  static make(count: number, characters: number, form: ListForm): KnownLines | undefined {
    if (form.logHashAlgorithm !== 'sha1' && form.logHashAlgorithm !== 'sha256') return undefined;
    const places = 2 ** Math.ceil(Math.log2(Math.max(16, 2 * count)));
    const besides = RECORD.line + lineBytes(form) + 15;
    const knownBytes = PLACE_BYTES * places + Math.ceil(1.1 * characters) + count * besides + LONGEST_LINE;
    const scratch = knownBytes <= MOST_BYTES ? makeScratch(knownBytes) : undefined;
    return scratch && new KnownLines(scratch, places, form);
  }

  /**
   * Adds the line by which a kernel would measure a file with digest `hex`; one that no kernel would print so is left out, as is
   * one for which there is no room. It is known after `finish`, or earlier.
   */
  add(path: string, hex: string): void {
    if (path.length > LONGEST_PATH) return;
    if (this.#waiting.length === 2 * BATCH || this.#windowTo > LAST_START) this.finish();
    if (this.#write(path, hex)) this.#waiting.push(path, hex);
  }

  #write(path: string, hex: string): boolean {
    const { bytes } = this.scratch;
    const head = this.#heads.get(hex.length);
    if (head === undefined) return false;
    let at = this.#windowTo;
    bytes.set(head, at);
    at += head.length;
    at += bytes.write(hex, at, 'latin1');
    bytes[at++] = 0x20;
    const size = bytes.write(path, at, 'utf8');
    if (size !== path.length && !path.isWellFormed()) return false;
    at += size;
    this.#windowTo = at + bytes.write(this.#tail, at, 'latin1');
    return true;
  }

  /** Makes what was added known. */
  finish(): void {
    const files = this.#waiting;
    const isLearnt = this.#learn(files.length / 2);
    this.#waiting = [];
    this.#windowTo = MEMORY.window;
    if (isLearnt || files.length === 2) return;
    // One of them is not read as one line of a file: each on its own.
    for (let i = 0; i < files.length; i += 2) {
      if (this.#write(files[i] as string, files[i + 1] as string)) this.#learn(1);
      this.#windowTo = MEMORY.window;
    }
  }

  /** Whether the window has `count` lines, each of one file and none of anything else. */
  #learn(count: number): boolean {
    const { module, bytes, words, lineStarts } = this.scratch;
    bytes.fill(0, this.#windowTo, this.#windowTo + MEMORY.guardBytes);
    const columnChars = 2 * this.#columnBytes;
    const { window, bankDigests, messages } = MEMORY;
    const read = module.readFiles(window, 0, count, 0, bankDigests, messages, columnChars);
    if (read !== count || words[MEMORY.stoppedAt >> 2] !== this.#windowTo) return false;
    lineStarts[count] = this.#windowTo;
    const columns = hashMessages(this.scratch, count, this.#columnBytes === 20 ? 'sha1' : 'sha256');
    this.#free = module.learnLines(count, columns, this.#columnBytes - 16, this.mask, this.#free, bytes.length);
    return true;
  }
}
