import { MEMORY } from './list-memory.ts';
import {
  bytes,
  type Code,
  get,
  i32,
  Locals,
  repeatWhile,
  returned,
  set,
  v128,
  type WasmFunction,
  when,
} from './wasm.ts';

/**
 * Compares template hash columns with the digests to which the table `places` leads, from message number `from` to `count`.
 * Returns the number of the first message whose line has anything else there than its digest in lower case, or `count`.
 * `lastBytes` is the size of the digest less 16.
 */
export type FirstWrongColumn = (from: number, count: number, places: number, lastBytes: number) => number;

/** Characters before the column in a line of PCR 10. */
export const COLUMN_START = 3;

const HIGH_AND_LOW = [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23];
const BYTES_SWAPPED = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

/** Sixteen bytes of a digest, stored as words, as the 32 characters that `use` gets in two halves. */
export function hexOf(locals: Locals): (digest: Code, use: (characters: Code, offset: number) => Code) => Code {
  const [digest, high, low, digits] = locals.many('v128', 4) as unknown as [number, number, number, number];
  return (loaded, use) => [
    ...set(digest, loaded),
    ...set(digest, v128.shuffle(get(digest), get(digest), BYTES_SWAPPED)),
    ...set(high, bytes.shiftRight(get(digest), 4)),
    ...set(low, v128.and(get(digest), bytes.splat(i32.constant(0x0f)))),
    ...set(digits, v128.load(i32.constant(0), MEMORY.hexDigits)),
    ...use(bytes.lookUp(get(digits), v128.shuffle(get(high), get(low), HIGH_AND_LOW)), 0),
    ...use(
      bytes.lookUp(
        get(digits),
        v128.shuffle(
          get(high),
          get(low),
          HIGH_AND_LOW.map((i) => i + 8),
        ),
      ),
      16,
    ),
  ];
}

/** Where the characters of the last 16 bytes of a digest begin. */
export const lastOf = (start: number, lastBytes: number): Code => i32.add(get(start), i32.shiftLeft(get(lastBytes), 1));

export function firstWrongColumn(): WasmFunction {
  const parameters = ['i32', 'i32', 'i32', 'i32'] as const;
  const [from, count, places, lastBytes] = [0, 1, 2, 3];
  const locals = new Locals(parameters.length);
  const [digest, start, column] = locals.many('i32', 3) as [number, number, number];
  const different = locals.one('v128');
  const hex = hexOf(locals);
  const compare = (characters: Code, offset: number): Code =>
    set(different, v128.or(get(different), v128.xor(characters, v128.load(get(column), offset))));
  const message: Code = [
    ...set(digest, i32.load(i32.add(get(places), i32.shiftLeft(get(from), 2)), 0)),
    ...set(start, i32.load(i32.shiftLeft(get(from), 2), MEMORY.columnStarts)),
    ...set(column, get(start)),
    ...set(different, v128.splat(i32.constant(0))),
    ...hex(v128.load(get(digest), 0), compare),
    ...set(column, lastOf(start, lastBytes)),
    ...hex(v128.load(i32.add(get(digest), get(lastBytes)), 0), compare),
    ...when(v128.anyTrue(get(different)), returned(get(from))),
    ...set(from, i32.add(get(from), i32.constant(1))),
  ];
  const body = [
    ...repeatWhile(when(i32.lessThan(get(from), get(count)), message), i32.lessThan(get(from), get(count))),
    ...get(count),
  ];
  return { name: 'firstWrongColumn', parameters, result: 'i32', locals: locals.types, body };
}
