import { Batch, scratchFor } from './batch.ts';
import { encodeUtf8 } from './list-text.ts';

const WORDS = 8;
const ENTRIES_PER_PIECE = 4096;

/**
 * SHA-256 template hashes of entries that are known to be accepted. A template hash stands for digest, name and template
 * as surely as the PCR does, and replay has it at hand, so that one look-up of 32 bytes replaces two of text.
 */
export class KnownEntries {
  readonly #slots: Uint32Array;
  readonly #mask: number;
  #free: number;

  /** Room for `capacity` template hashes; what is added beyond it is not kept. */
  constructor(capacity: number) {
    const size = 2 ** Math.ceil(Math.log2(Math.max(16, capacity * 1.5)));
    this.#slots = new Uint32Array(WORDS * size);
    this.#mask = size - 1;
    this.#free = capacity;
  }

  /** The place of the template hash at `words[at]` to `words[at + 7]`, or the empty place where it belongs. */
  #placeOf(words: Uint32Array, at: number): number {
    for (let slot = (words[at] as number) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const place = slot * WORDS;
      if (this.#isEmpty(place)) return place;
      let same = 0;
      while (same < WORDS && this.#slots[place + same] === words[at + same]) same++;
      if (same === WORDS) return place;
    }
  }

  /** No template hash is all zeros; and if one began with 64 of them, it would merely not be found. */
  #isEmpty(place: number): boolean {
    return this.#slots[place] === 0 && this.#slots[place + 1] === 0;
  }

  has(words: Uint32Array, at: number): boolean {
    return !this.#isEmpty(this.#placeOf(words, at));
  }

  add(words: Uint32Array, at: number): void {
    const place = this.#placeOf(words, at);
    if (!this.#isEmpty(place) || this.#free === 0) return;
    this.#free--;
    this.#slots.set(words.subarray(at, at + WORDS), place);
  }
}

/** Templates that measure a file; the signature of `ima-sig` entries is taken to be absent. */
export type FileTemplate = 'ima-ng' | 'ima-sig';

const ALGORITHMS: Readonly<Record<number, string>> = { 40: 'sha1', 64: 'sha256', 96: 'sha384', 128: 'sha512' };

/**
 * The entries by which a kernel would measure `files`, pairs of a path and a digest in hex, of which there are `count`, in
 * template `template`: their lines are written and read. Files that no kernel would print so are left out. Yields now and
 * then; `undefined` on processors without the fast way.
 */
export function* knownEntries(
  files: Iterable<readonly [path: string, hex: string]>,
  count: number,
  template: FileTemplate,
): Generator<void, KnownEntries | undefined> {
  const known = new KnownEntries(count);
  // The column only has to be one of no violation: it is not looked at.
  const head = `10 ${'1'.repeat(40)} ${template} `;
  const tail = template === 'ima-sig' ? ' \n' : '\n';
  let lines: string[] = [];
  for (const [path, hex] of files) {
    const algorithm = ALGORITHMS[hex.length];
    if (algorithm === undefined || /[ \n\0]/.test(path) || !path.isWellFormed()) continue;
    lines.push(`${head}${algorithm}:${hex} ${path}${tail}`);
    if (lines.length < ENTRIES_PER_PIECE) continue;
    if (!learn(lines, known)) return undefined;
    lines = [];
    yield;
  }
  return learn(lines, known) ? known : undefined;
}

function learn(lines: readonly string[], known: KnownEntries): boolean {
  // The last lines of a list are read plainly, so blank ones are put behind them.
  const list = encodeUtf8(`${lines.join('')}${'\n'.repeat(512)}`);
  const nothing = new Uint8Array(32);
  const part = {
    list,
    firstIndex: 0,
    bank: 'sha256',
    runningPcr: nothing,
    quotedPcr: nothing,
    logHashAlgorithm: 'sha1',
  } as const;
  const scratch = scratchFor(part);
  if (scratch === undefined) return false;
  for (let at = 0; at < list.length; ) {
    const batch = new Batch(scratch, part, at, 0);
    batch.learn(known);
    at = batch.end;
  }
  return true;
}
