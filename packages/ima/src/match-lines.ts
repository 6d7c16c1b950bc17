import { MEMORY } from './list-memory.ts';
import { type Code, get, i32, Locals, repeatWhile, returned, set, v128, type WasmFunction, when } from './wasm.ts';

/**
 * Reads known lines, one after the other, from address `at` on, where the list goes on to `end`. For entry number `entry`
 * and those behind it, up to `stop`, stores the address of the line, and from `digests` on the SHA-256 of its template data. Returns the number of the first entry that is not known, and stores where its line begins.
 * `mask` is the number of places in the table less one.
 */
export type MatchLines = (
  at: number,
  end: number,
  entry: number,
  stop: number,
  digests: number,
  mask: number,
) => number;

/**
 * A place of the table: address and length of a known line. They are together, so that the next line can be looked up while
 * memory still fetches this one. At the address: its SHA-256 template hash as 8 words, then its bytes with the newline.
 */
export const PLACE_BYTES = 8;
export const RECORD = { digest: 0, line: 32, shortestLine: 32 } as const;

/** Of a line `10 <column> ...`, the 8 hexadecimal digits by which it is looked for. */
const KEY_AT = 3;
const FACTORS = [0x9e3779b1, 0x85ebca6b] as const;

/** Local `place`: where to look first for the line at address `line`; to be cut to the size of the table. */
export function firstPlace(line: number, place: number): Code {
  const word = (i: number) => i32.multiply(i32.load(get(line), KEY_AT + 4 * i), i32.constant(FACTORS[i] ?? 0));
  return [...set(place, i32.add(word(0), word(1))), ...set(place, i32.xor(get(place), i32.shiftRight(get(place), 15)))];
}

/** The same as taking each line as text from a map, byte for byte. */
export function matchLines(): WasmFunction {
  const parameters = ['i32', 'i32', 'i32', 'i32', 'i32', 'i32'] as const;
  const [at, end, entry, stop, digests, mask] = [0, 1, 2, 3, 4, 5];
  const locals = new Locals(parameters.length);
  const [place, record, length, offset, same] = locals.many('i32', 5) as [number, number, number, number, number];
  const zero = i32.constant(0);
  const plus = (local: number, value: number) => set(local, i32.add(get(local), i32.constant(value)));

  const difference = (from: Code) =>
    v128.xor(v128.load(i32.add(get(at), from), 0), v128.load(i32.add(get(record), from), RECORD.line));
  const lastBlock = i32.subtract(get(length), i32.constant(16));
  // Blocks of 16 bytes until one differs or the last one begins; then that one and the last, which may overlap.
  const compared: Code = [
    ...set(offset, i32.constant(-16)),
    ...repeatWhile(
      plus(offset, 16),
      i32.and(
        i32.isZero(v128.anyTrue(difference(get(offset)))),
        i32.lessThan(i32.add(get(offset), i32.constant(16)), lastBlock),
      ),
    ),
    ...set(same, i32.isZero(v128.anyTrue(v128.or(difference(get(offset)), difference(lastBlock))))),
  ];
  const found: Code = [
    ...set(record, i32.load(i32.shiftLeft(get(place), 3), MEMORY.known)),
    ...when(i32.isZero(get(record)), [...i32.store(zero, MEMORY.stoppedAt, get(at)), ...returned(get(entry))]),
    ...set(length, i32.load(i32.shiftLeft(get(place), 3), MEMORY.known + 4)),
    ...set(same, zero),
    ...when(i32.isZero(i32.lessThan(get(end), i32.add(get(at), get(length)))), compared),
    ...set(place, i32.and(i32.add(get(place), i32.constant(1)), get(mask))),
  ];
  const line: Code = [
    ...firstPlace(at, place),
    ...set(place, i32.and(get(place), get(mask))),
    ...repeatWhile(found, i32.isZero(get(same))),
    ...v128.store(get(digests), 0, v128.load(get(record), RECORD.digest)),
    ...v128.store(get(digests), 16, v128.load(get(record), RECORD.digest + 16)),
    ...i32.store(i32.shiftLeft(get(entry), 2), MEMORY.lineStarts, get(at)),
    ...set(at, i32.add(get(at), get(length))),
    ...plus(digests, 32),
    ...plus(entry, 1),
  ];
  const body: Code = [
    ...repeatWhile(line, i32.lessThan(get(entry), get(stop))),
    ...i32.store(zero, MEMORY.stoppedAt, get(at)),
    ...get(entry),
  ];
  return { name: 'matchLines', parameters, result: 'i32', locals: locals.types, body };
}
