import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { Batch, makeScratch, type Scratch, sharedScratch } from './batch.ts';
import { KnownStretches } from './known-stretches.ts';
import { encodeUtf8 } from './list-text.ts';
import { hashKey, keyOf, PLACE_BYTES, RECORD } from './match-lines.ts';
import { MEMORY } from './sha-module.ts';

const LINES_PER_PIECE = 4096;
/** Larger policies are judged the ordinary way: room for about a million files. */
const MOST_BYTES = 256 * 1024 * 1024;
/** `10 `, ` ima-sig `, `sha256:`, a space, and the end of a line with an empty signature. */
const SEPARATORS = 24;

/**
 * Lines that are known to be accepted, whole, with their SHA-256 template hashes: comparing a line with one of them takes
 * the place of reading, hashing and judging it. The room is that of the lines it was made for; nothing else gets in.
 */
export class KnownLines {
  readonly scratch: Scratch;
  readonly mask: number;
  readonly stretches = new KnownStretches();
  #free: number;

  private constructor(scratch: Scratch, places: number) {
    this.scratch = scratch;
    this.mask = places - 1;
    this.#free = MEMORY.known + PLACE_BYTES * places;
  }

  /** Room for `count` lines of `bytes` together; `undefined` if that is too much, or on processors without the fast way. */
  static make(count: number, bytes: number): KnownLines | undefined {
    const places = 2 ** Math.ceil(Math.log2(Math.max(16, 2 * count)));
    const knownBytes = PLACE_BYTES * places + bytes + count * (RECORD.line + 16) + 16;
    const scratch = knownBytes <= MOST_BYTES ? makeScratch(knownBytes) : undefined;
    return scratch && new KnownLines(scratch, places);
  }

  /** Adds a line, which ends with its newline, and its template hash at `digest[at]` to `digest[at + 7]`. */
  add(line: Buffer, digest: Uint32Array, at: number): void {
    const { words, bytes } = this.scratch;
    const record = this.#free;
    const end = (record + RECORD.line + line.length + 15) & ~15;
    if (end > bytes.length || line.length < RECORD.shortestLine) return;
    let place = hashKey(...keyOf(line)) & this.mask;
    const table = MEMORY.known >> 2;
    while (words[table + 2 * place] !== 0) place = (place + 1) & this.mask;
    words[table + 2 * place] = record;
    words[table + 2 * place + 1] = line.length;
    words.set(digest.subarray(at, at + 8), (record + RECORD.digest) >> 2);
    bytes.set(line, record + RECORD.line);
    this.#free = end;
  }
}

/** Templates that measure a file; the signature of `ima-sig` entries is taken to be absent. */
export type FileTemplate = 'ima-ng' | 'ima-sig';

const ALGORITHMS: Readonly<Record<number, string>> = { 40: 'sha1', 64: 'sha256', 96: 'sha384', 128: 'sha512' };

/** What lines of a list have in common: the template, and the algorithm of the template hash column. */
export type ListForm = { readonly template: FileTemplate; readonly logHashAlgorithm: HashAlgorithm };

/**
 * The lines by which a kernel would measure `files`, pairs of a path and a digest in hex. Files that no kernel would print
 * so are left out. Yields now and then; `undefined` where there is no fast way. `files` is gone through twice.
 */
export function* knownLines(
  files: () => Iterable<readonly [path: string, hex: string]>,
  form: ListForm,
): Generator<void, KnownLines | undefined> {
  let count = 0;
  let bytes = 0;
  for (const [path, hex] of files()) {
    count++;
    bytes += SEPARATORS + 2 * digestSize(form.logHashAlgorithm) + hex.length + Buffer.byteLength(path);
  }
  const known = KnownLines.make(count, bytes);
  const scratch = sharedScratch();
  if (known === undefined || scratch === undefined) return undefined;
  let lines: string[] = [];
  for (const [path, hex] of files()) {
    const line = lineOf(path, hex, form);
    if (line === undefined) continue;
    lines.push(line);
    if (lines.length < LINES_PER_PIECE) continue;
    learn(lines, form, scratch, known);
    lines = [];
    yield;
  }
  learn(lines, form, scratch, known);
  return known;
}

/** The line without its right template hash: a column that is none of a violation. */
function lineOf(path: string, hex: string, { template, logHashAlgorithm }: ListForm): string | undefined {
  const algorithm = ALGORITHMS[hex.length];
  if (algorithm === undefined || /[ \n\0]/.test(path) || !path.isWellFormed()) return undefined;
  const column = '1'.repeat(2 * digestSize(logHashAlgorithm));
  return `10 ${column} ${template} ${algorithm}:${hex} ${path}${template === 'ima-sig' ? ' ' : ''}\n`;
}

function learn(lines: readonly string[], { logHashAlgorithm }: ListForm, scratch: Scratch, known: KnownLines): void {
  // The last lines of a list are read plainly, so blank ones are put behind them.
  const list = encodeUtf8(`${lines.join('')}${'\n'.repeat(512)}`);
  const nothing = new Uint8Array(32);
  const part = {
    list,
    firstIndex: 0,
    bank: 'sha256',
    runningPcr: nothing,
    quotedPcr: nothing,
    logHashAlgorithm,
  } as const;
  for (let at = 0; at < list.length; ) {
    const batch = new Batch(scratch, part, at, 0);
    batch.learn(known);
    at = batch.end;
  }
}
