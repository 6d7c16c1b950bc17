import { EXTEND, LANES } from './extend-memory.ts';
import { type ExtendModule, extendModule } from './extend-module.ts';

const WORDS = 8;

/** What a SHA-256 PCR is to be extended by. Whoever runs several lists does it for four of them at once. */
export class ExtendSequence {
  /** The PCR after the extends that were done, as words. */
  readonly pcr = new Uint32Array(WORDS);
  readonly quotedPcr: Uint32Array;
  #digests = new Uint32Array();
  #values = new Uint32Array();
  #wantsValues = false;
  #count = 0;
  #isDone = true;
  #matched: number | undefined;

  constructor(runningPcr: Uint8Array, quotedPcr: Uint8Array) {
    this.startFrom(runningPcr);
    this.quotedPcr = wordsOf(quotedPcr);
  }

  startFrom(runningPcr: Uint8Array): void {
    this.pcr.set(wordsOf(runningPcr));
  }

  /**
   * The next ones, when those before are done: at most BATCH digests of 8 words each, which are copied. `wantsValues` says
   * whether `values` will be asked for.
   */
  give(digests: Uint32Array, wantsValues: boolean): void {
    // Most lists are a few entries that came since the last round.
    if (this.#digests.length < digests.length) this.#digests = new Uint32Array(digests.length);
    this.#digests.set(digests);
    this.#wantsValues = wantsValues;
    this.#count = digests.length / WORDS;
    this.#isDone = this.#count === 0;
    this.#matched = undefined;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  get count(): number {
    return this.#count;
  }

  get digests(): Uint32Array {
    return this.#digests.subarray(0, WORDS * this.#count);
  }

  /**
   * Notes that they are done, up to the one after which the PCR was first the quoted one. From `words[first]` on, LANES apart, are
   * its first words after each.
   */
  end(matched: number | undefined, words: Uint32Array, first: number): void {
    this.#matched = matched;
    this.#isDone = true;
    if (!this.#wantsValues) return;
    if (this.#values.length < this.#count) this.#values = new Uint32Array(this.#count);
    for (let i = 0; i < (matched ?? this.#count); i++) this.#values[i] = words[first + LANES * i] as number;
  }

  /** Does what nobody has done yet, and tells after how many the PCR was the quoted one; the others are not done. */
  run(): number | undefined {
    if (!this.#isDone) extendTogether([this]);
    return this.#matched;
  }

  get runningPcr(): Buffer {
    const pcr = Buffer.alloc(4 * WORDS);
    for (const [i, word] of this.pcr.entries()) pcr.writeUInt32BE(word, 4 * i);
    return pcr;
  }

  /** The first word of the PCR after each of those that were done last. */
  values(): Uint32Array {
    return this.#values.slice(0, this.#matched ?? this.#count);
  }
}

function wordsOf(pcr: Uint8Array): Uint32Array {
  const view = new DataView(pcr.buffer, pcr.byteOffset, pcr.length);
  return Uint32Array.from({ length: WORDS }, (_, i) => view.getUint32(4 * i));
}

/** Does all of `sequences`, four at a time: alone, each takes more than twice as long. */
export function extendTogether(sequences: readonly ExtendSequence[]): void {
  const module = extendModule();
  if (module === undefined) throw new Error('This processor has no 128-bit SIMD.');
  const left = sequences.filter(({ isDone }) => !isDone);
  for (let i = 0; i < left.length; i += LANES) extendLanes(module, left.slice(i, i + LANES));
}

type Lane = { readonly number: number; readonly sequence: ExtendSequence };

function extendLanes(module: ExtendModule, sequences: readonly ExtendSequence[]): void {
  const { words } = module;
  let lanes = sequences.map((sequence, number): Lane => ({ number, sequence }));
  for (const { number, sequence } of lanes) {
    words.set(sequence.digests, (EXTEND.digests + EXTEND.laneBytes * number) >> 2);
    for (let i = 0; i < WORDS; i++) words[wordOfPcr(number, i)] = sequence.pcr[i] as number;
    words[(EXTEND.quotedWords >> 2) + number] = sequence.quotedPcr[0] as number;
  }
  let done = 0;
  while (lanes.length > 1) {
    done = module.extendFour(done, Math.min(...lanes.map(({ sequence }) => sequence.count)));
    lanes = lanes.filter((lane) => {
      const { pcr, quotedPcr, count } = lane.sequence;
      for (let i = 0; i < WORDS; i++) pcr[i] = words[wordOfPcr(lane.number, i)] as number;
      const isMatch = pcr.every((word, i) => word === quotedPcr[i]);
      if (!isMatch && done < count) return true;
      end(module, lane, isMatch ? done : undefined);
      return false;
    });
  }
  // One alone is faster than with three empty lanes.
  for (const lane of lanes) end(module, lane, extendRest(module, lane, done));
}

const wordOfPcr = (lane: number, word: number): number => (EXTEND.pcrs >> 2) + LANES * word + lane;

const end = ({ words }: ExtendModule, { number, sequence }: Lane, matched: number | undefined): void =>
  sequence.end(matched, words, (EXTEND.values >> 2) + number);

function extendRest({ words, extend }: ExtendModule, { number, sequence }: Lane, done: number): number | undefined {
  const { pcr, quotedPcr, count } = sequence;
  words.set(pcr, EXTEND.pcr >> 2);
  words.set(quotedPcr, EXTEND.quotedPcr >> 2);
  const digests = EXTEND.digests + EXTEND.laneBytes * number + 32 * done;
  const extended = extend(digests, count - done, EXTEND.values + EXTEND.valueBytes * done + 4 * number);
  pcr.set(words.subarray(EXTEND.pcr >> 2, (EXTEND.pcr >> 2) + WORDS));
  return extended === 0 ? undefined : done + extended;
}
