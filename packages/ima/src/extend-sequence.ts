import { EXTEND, LANES } from './extend-memory.ts';
import { type ExtendModule, extendModule } from './extend-module.ts';
import { BATCH } from './list-memory.ts';

const WORDS = 8;
const NONE = new Uint32Array();

/** Room for a batch of digests each. Most lists are a few entries that came since the last round: making it costs more than they do. */
const free: Uint32Array[] = [];

/** What a SHA-256 PCR is to be extended by. Whoever runs several lists does it for four of them at once. */
export class ExtendSequence {
  /** The PCR after the extends that were done: another buffer each time, which nobody changes. */
  pcr: Buffer;
  readonly quotedPcr: Uint8Array;
  #digests: Uint32Array = NONE;
  #values: Uint32Array = NONE;
  #wantsValues = false;
  #count = 0;
  #isDone = true;
  #matched: number | undefined;

  constructor(pcr: Buffer, quotedPcr: Uint8Array) {
    this.pcr = pcr;
    this.quotedPcr = quotedPcr;
  }

  /**
   * The next ones, when those before are done: at most BATCH digests of 8 words each, which are copied. `wantsValues` says
   * whether `values` will be asked for.
   */
  give(digests: Uint32Array, wantsValues: boolean): void {
    if (this.#digests === NONE) this.#digests = free.pop() ?? new Uint32Array(WORDS * BATCH);
    this.#digests.set(digests);
    this.#values = NONE;
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

  /** Those that are not done; afterwards the room is another's. */
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
    free.push(this.#digests);
    this.#digests = NONE;
    if (!this.#wantsValues) return;
    this.#values = new Uint32Array(matched ?? this.#count);
    for (let i = 0; i < this.#values.length; i++) this.#values[i] = words[first + LANES * i] as number;
  }

  /** Does what nobody has done yet, and tells after how many the PCR was the quoted one; the others are not done. */
  run(): number | undefined {
    if (!this.#isDone) extendAlone(this);
    return this.#matched;
  }

  /** The first word of the PCR after each of those that were done last. */
  values(): Uint32Array {
    return this.#values;
  }
}

/** Does all of `sequences`, four at a time: alone, each takes more than twice as long. */
export function extendTogether(sequences: readonly ExtendSequence[]): void {
  const left = sequences.filter(({ isDone }) => !isDone);
  for (let i = 0; i < left.length; i += LANES) extendLanes(left.slice(i, i + LANES));
}

function extendAlone(sequence: ExtendSequence): void {
  const module = moduleInUse();
  module.words.set(sequence.digests, EXTEND.digests >> 2);
  extendRest(module, 0, sequence, 0);
}

function extendLanes(sequences: readonly ExtendSequence[]): void {
  const module = moduleInUse();
  const { words } = module;
  let lanes = [...sequences.entries()];
  for (const [lane, { digests, pcr, quotedPcr }] of lanes) {
    words.set(digests, (EXTEND.digests + EXTEND.laneBytes * lane) >> 2);
    setWords(words, (EXTEND.pcrs >> 2) + lane, LANES, pcr);
    words[(EXTEND.quotedWords >> 2) + lane] = wordOf(quotedPcr, 0);
  }
  let done = 0;
  while (lanes.length > 1) {
    done = module.extendFour(done, Math.min(...lanes.map(([, { count }]) => count)));
    lanes = lanes.filter(([lane, sequence]) => {
      sequence.pcr = bytesOf(words, (EXTEND.pcrs >> 2) + lane, LANES);
      const isMatch = sequence.pcr.equals(sequence.quotedPcr);
      if (!isMatch && done < sequence.count) return true;
      end(module, lane, sequence, isMatch ? done : undefined);
      return false;
    });
  }
  // One alone is faster than with three empty lanes.
  for (const [lane, sequence] of lanes) extendRest(module, lane, sequence, done);
}

/** Extends on from digest number `done`. */
function extendRest(module: ExtendModule, lane: number, sequence: ExtendSequence, done: number): void {
  const { words, extend } = module;
  setWords(words, EXTEND.pcr >> 2, 1, sequence.pcr);
  setWords(words, EXTEND.quotedPcr >> 2, 1, sequence.quotedPcr);
  const digests = EXTEND.digests + EXTEND.laneBytes * lane + 32 * done;
  const extended = extend(digests, sequence.count - done, EXTEND.values + EXTEND.valueBytes * done + 4 * lane);
  sequence.pcr = bytesOf(words, EXTEND.pcr >> 2, 1);
  end(module, lane, sequence, extended === 0 ? undefined : done + extended);
}

const end = ({ words }: ExtendModule, lane: number, sequence: ExtendSequence, matched: number | undefined): void =>
  sequence.end(matched, words, (EXTEND.values >> 2) + lane);

function moduleInUse(): ExtendModule {
  const module = extendModule();
  if (module === undefined) throw new Error('This processor has no 128-bit SIMD.');
  return module;
}

/** A PCR as words, each `step` behind the one before. */
function setWords(words: Uint32Array, first: number, step: number, pcr: Uint8Array): void {
  for (let i = 0; i < WORDS; i++) words[first + step * i] = wordOf(pcr, i);
}

function wordOf(pcr: Uint8Array, i: number): number {
  const byte = (place: number) => pcr[4 * i + place] as number;
  return (byte(0) << 24) | (byte(1) << 16) | (byte(2) << 8) | byte(3);
}

function bytesOf(words: Uint32Array, first: number, step: number): Buffer {
  const pcr = Buffer.alloc(4 * WORDS);
  for (let i = 0; i < WORDS; i++) pcr.writeUInt32BE(words[first + step * i] as number, 4 * i);
  return pcr;
}
