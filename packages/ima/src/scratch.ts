import { type BytesView, viewOf } from '@keylime/core/bytes-view';
import { BATCH, MEMORY } from './list-memory.ts';
import { type ListModule, makeListModule } from './list-module.ts';

/** Memory that one piece of a list at a time is read in: nothing in it, but for known lines, outlives the piece. */
export type Scratch = {
  readonly module: ListModule;
  readonly bytes: Buffer;
  readonly view: BytesView;
  readonly words: Uint32Array;
  readonly window: Uint8Array;
  /** The tables of `MEMORY`. */
  readonly messageNumbers: Int32Array;
  readonly lineStarts: Uint32Array;
  readonly digestStarts: Uint32Array;
  readonly pathStarts: Uint32Array;
  readonly pathEnds: Uint32Array;
  readonly columnStarts: Uint32Array;
  readonly wide: Uint32Array;
  readonly places: Uint32Array;
};

let shared: Scratch | null | undefined;

/** The one scratch of those who know no lines; `undefined` on processors without the fast way. */
export function sharedScratch(): Scratch | undefined {
  if (shared === undefined) shared = makeScratch() ?? null;
  return shared ?? undefined;
}

/** With room for `knownBytes` of known lines. */
export function makeScratch(knownBytes = 0): Scratch | undefined {
  const module = makeListModule(knownBytes);
  if (module === undefined) return undefined;
  const { memory } = module;
  const view = viewOf(memory);
  return {
    module,
    bytes: view.bytes,
    view,
    words: new Uint32Array(memory, 0, memory.byteLength >> 2),
    window: new Uint8Array(memory, MEMORY.window, MEMORY.windowBytes),
    messageNumbers: new Int32Array(memory, MEMORY.messageNumbers, BATCH),
    lineStarts: new Uint32Array(memory, MEMORY.lineStarts, BATCH + 1),
    digestStarts: new Uint32Array(memory, MEMORY.digestStarts, BATCH),
    pathStarts: new Uint32Array(memory, MEMORY.pathStarts, BATCH),
    pathEnds: new Uint32Array(memory, MEMORY.pathEnds, BATCH),
    columnStarts: new Uint32Array(memory, MEMORY.columnStarts, BATCH),
    wide: new Uint32Array(memory, MEMORY.wide, BATCH),
    places: new Uint32Array(memory, MEMORY.places, BATCH),
  };
}

/** Big-endian bytes as words from address `at` on. */
export function setWords({ words }: Scratch, at: number, value: Uint8Array): void {
  const view = new DataView(value.buffer, value.byteOffset, value.length);
  for (let i = 0; i < value.length / 4; i++) words[(at >> 2) + i] = view.getUint32(4 * i);
}

/**
 * Hashes the first `count` messages: SHA-256 to their places, and SHA-1 too where the column has it. Returns the table of the
 * digests that the columns should show.
 */
export function hashMessages({ module, words, places }: Scratch, count: number, column: 'sha1' | 'sha256'): number {
  const groups = Math.ceil(count / 4);
  if (groups === 0) return MEMORY.places;
  for (let spare = count; spare < 4 * groups; spare++) {
    words[(MEMORY.counts >> 2) + spare] = 0;
    places[spare] = MEMORY.spareDigest;
  }
  module.sha256(MEMORY.places, groups);
  if (column === 'sha256') return MEMORY.places;
  module.sha1(MEMORY.columnPlaces, groups);
  return MEMORY.columnPlaces;
}
