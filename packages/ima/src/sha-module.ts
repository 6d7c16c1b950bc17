import { endianness } from 'node:os';
import { type MatchLines, matchLines } from './match-lines.ts';
import {
  type Code,
  compileModule,
  encodeModule,
  get,
  i32,
  instantiateModule,
  repeatWhile,
  returned,
  set,
  tee,
  type ValueType,
  v128,
  when,
} from './wasm.ts';

/*
 * SHA-1 and SHA-256 (FIPS 180-4) for measurement lists, because a call of node:crypto costs more than the hash of a line:
 * four messages at a time for template hashes, which do not depend on each other, and a chain of two-block messages for
 * the extends of a PCR, which do.
 */

/** Where things are in the module's memory, in bytes. */
export const MEMORY = {
  /** Per message: address of its padded blocks, and in a second array their number. */
  addresses: 0x1000,
  counts: 0x2000,
  /** 32 bytes per message: words as the machine stores them, the first 5 or all 8. */
  columnDigests: 0x4000,
  /** 32 bytes per entry that can be read. */
  bankDigests: 0x0_8000,
  pcr: 0x0_f000,
  quotedPcr: 0x0_f020,
  messages: 0x1_0000,
  messagesEnd: 0x6_0000,
  /** 32 bytes per message: its SHA-256, before it takes its place among `bankDigests`. */
  messageDigests: 0x6_8000,
  /** Per entry: offset of its line in the list. */
  lineStarts: 0x6_c000,
  /** First word of the PCR after each entry of the last call of `extend`. */
  running: 0x6_e000,
  /** Where the last call of `matchLines` stopped. */
  matchedTo: 0x6_d000,
  pages: 8,
  /** A piece of a list, for `matchLines`. */
  window: 0x8_0000,
  windowBytes: 0x2_0000,
  /** Known lines: a table of addresses, then what it leads to (known-lines.ts). */
  known: 0xb_0000,
} as const;

/** Most messages in one call. */
export const BATCH = 512;

/** The longest message: lanes are read to the end of the longest of four, so some room remains behind the messages. */
export const LONGEST_MESSAGE = 0x4000;

const SHA256_K = fractionalParts(64, 1 / 3);
const SHA256_INITIAL = fractionalParts(8, 1 / 2);
const SHA1_K = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6];
const SHA1_INITIAL = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
const SHA1_K_OFFSET = 4 * SHA256_K.length;

/** First 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3). */
function fractionalParts(count: number, exponent: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes.map((prime) => ((prime ** exponent % 1) * 2 ** 32) | 0);
}

/** What SHA is made of, for one 32-bit word or for four. */
type Word = {
  readonly type: ValueType;
  readonly add: (...operands: Code[]) => Code;
  readonly and: (...operands: Code[]) => Code;
  readonly or: (...operands: Code[]) => Code;
  readonly xor: (...operands: Code[]) => Code;
  readonly shiftRight: (value: Code, bits: number) => Code;
  readonly rotateRight: (value: Code, bits: number) => Code;
  /** The constant that `data` holds at `offset`. */
  readonly constant: (offset: number, value: number) => Code;
};

const ONE: Word = { type: 'i32', ...i32, constant: (_, value) => i32.constant(value) };
const FOUR: Word = { type: 'v128', ...v128, constant: (offset) => v128.loadSplat(i32.constant(0), offset) };

/** Hands out numbers of locals. */
class Locals {
  readonly types: ValueType[] = [];
  readonly #parameters: number;
  constructor(parameters: number) {
    this.#parameters = parameters;
  }
  one(type: ValueType): number {
    return this.#parameters + this.types.push(type) - 1;
  }
  many(type: ValueType, count: number): number[] {
    return Array.from({ length: count }, () => this.one(type));
  }
}

/** `list[i]`, which the caller knows to be there. */
const at = (list: readonly number[], i: number): number => list[i % list.length] ?? 0;

const sum = (word: Word, first: Code, ...rest: Code[]): Code =>
  rest.reduce((total, next) => word.add(total, next), first);

/**
 * The 64 rounds of SHA-256 over the locals `state` (a to h) and the 16 locals `schedule`, or over a schedule known
 * beforehand. `spare` are three locals. 64 rounds later every variable is back in the local it came from.
 */
function sha256Rounds(
  word: Word,
  state: readonly number[],
  schedule: readonly number[] | Code,
  known: boolean,
  spare: readonly number[],
): Code {
  const { xor, and, rotateRight, shiftRight } = word;
  const code: number[] = [];
  const emit = (part: Code) => {
    for (const byte of part) code.push(byte);
  };
  const sigma = (x: Code, a: number, b: number, c: number) =>
    xor(xor(rotateRight(x, a), rotateRight(x, b)), rotateRight(x, c));
  const smallSigma = (x: Code, a: number, b: number, c: number) =>
    xor(xor(rotateRight(x, a), rotateRight(x, b)), shiftRight(x, c));
  const [t1, ...changes] = spare;
  // maj(a, b, c) = ((a ^ b) & (b ^ c)) ^ b, and b ^ c is the a ^ b of the round before.
  emit(set(at(changes, 1), xor(get(at(state, 1)), get(at(state, 2)))));
  for (let round = 0; round < 64; round++) {
    const [a, b, , d, e, f, g, h] = Array.from({ length: 8 }, (_, i) => at(state, i + 64 - round)) as Eight;
    const w = at(schedule, round);
    if (!known && round >= 16) {
      const s0 = smallSigma(get(at(schedule, round + 1)), 7, 18, 3);
      const s1 = smallSigma(get(at(schedule, round + 14)), 17, 19, 10);
      emit(set(w, sum(word, get(w), s0, get(at(schedule, round + 9)), s1)));
    }
    const k = SHA256_K[round] ?? 0;
    const kw = known ? word.constant(0, (k + w) | 0) : word.add(word.constant(4 * round, k), get(w));
    const choice = xor(get(g), and(get(e), xor(get(f), get(g))));
    emit(set(t1 ?? 0, sum(word, get(h), kw, choice, sigma(get(e), 6, 11, 25))));
    emit(set(d, word.add(get(d), get(t1 ?? 0))));
    const [now, before] = [at(changes, round), at(changes, round + 1)];
    const majority = xor(and(tee(now, xor(get(a), get(b))), get(before)), get(b));
    emit(set(h, sum(word, get(t1 ?? 0), majority, sigma(get(a), 2, 13, 22))));
  }
  return code;
}

type Eight = [number, number, number, number, number, number, number, number];

/** The 80 rounds of SHA-1 over the locals `state` (a to e) and the 16 locals `schedule`. */
function sha1Rounds(word: Word, state: readonly number[], schedule: readonly number[]): Code {
  const { xor, and, or, rotateRight } = word;
  const code: number[] = [];
  for (let round = 0; round < 80; round++) {
    const [a, b, c, d, e] = Array.from({ length: 5 }, (_, i) => at(state, i + 80 - round)) as [
      number,
      number,
      number,
      number,
      number,
    ];
    const w = at(schedule, round);
    const parts: Code[] = [];
    if (round >= 16) {
      const mixed = [13, 8, 2].reduce((x, i) => xor(x, get(at(schedule, round + i))), get(w));
      parts.push(set(w, rotateRight(mixed, 31)));
    }
    const phase = Math.floor(round / 20);
    const mix =
      phase === 0
        ? xor(get(d), and(get(b), xor(get(c), get(d))))
        : phase === 2
          ? or(and(get(b), get(c)), and(get(d), or(get(b), get(c))))
          : xor(xor(get(b), get(c)), get(d));
    const k = word.constant(SHA1_K_OFFSET + 4 * phase, SHA1_K[phase] ?? 0);
    parts.push(set(e, sum(word, get(e), get(w), k, mix, rotateRight(get(a), 27))));
    parts.push(set(b, rotateRight(get(b), 2)));
    for (const part of parts) for (const byte of part) code.push(byte);
  }
  return code;
}

const BYTES_SWAPPED = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];
const words = (...lanes: number[]): number[] =>
  lanes.flatMap((lane) => [4 * lane, 4 * lane + 1, 4 * lane + 2, 4 * lane + 3]);

/** `digestFour(digests, groups)`: digests of `groups` times four messages of the tables of MEMORY. */
function digestFour(
  functionName: string,
  initial: readonly number[],
  rounds: (locals: Locals, state: readonly number[], schedule: readonly number[]) => Code,
) {
  const parameters = ['i32', 'i32'] as const;
  const [digests, groups] = [0, 1];
  const locals = new Locals(parameters.length);
  const addresses = locals.many('i32', 4);
  const table = locals.one('i32');
  const remaining = locals.one('v128');
  const active = locals.one('v128');
  const hash = locals.many('v128', initial.length);
  const state = locals.many('v128', initial.length);
  const schedule = locals.many('v128', 16);
  const rows = locals.many('v128', 4);
  const pairs = locals.many('v128', 4);
  const minusOne = v128.splat(i32.constant(-1));

  // Four rows of four words become four columns; the bytes of a message are big-endian.
  const loadQuarter = (quarter: number): Code => [
    ...rows.flatMap((row, lane) => {
      const loaded = v128.load(get(at(addresses, lane)), 16 * quarter);
      return [...set(row, loaded), ...set(row, v128.shuffle(get(row), get(row), BYTES_SWAPPED))];
    }),
    ...set(at(pairs, 0), v128.shuffle(get(at(rows, 0)), get(at(rows, 1)), words(0, 4, 1, 5))),
    ...set(at(pairs, 1), v128.shuffle(get(at(rows, 2)), get(at(rows, 3)), words(0, 4, 1, 5))),
    ...set(at(pairs, 2), v128.shuffle(get(at(rows, 0)), get(at(rows, 1)), words(2, 6, 3, 7))),
    ...set(at(pairs, 3), v128.shuffle(get(at(rows, 2)), get(at(rows, 3)), words(2, 6, 3, 7))),
    ...[0, 1, 2, 3].flatMap((i) => {
      const pair = i < 2 ? 0 : 2;
      const lanes = i % 2 === 0 ? words(0, 1, 4, 5) : words(2, 3, 6, 7);
      return set(at(schedule, 4 * quarter + i), v128.shuffle(get(at(pairs, pair)), get(at(pairs, pair + 1)), lanes));
    }),
  ];
  const isLeft = v128.greaterThan(get(remaining), v128.splat(i32.constant(0)));
  const block: Code = [
    ...set(active, isLeft),
    ...[0, 1, 2, 3].flatMap(loadQuarter),
    ...state.flatMap((local, i) => set(local, get(at(hash, i)))),
    ...rounds(locals, state, schedule),
    ...hash.flatMap((local, i) =>
      set(local, v128.select(v128.add(get(local), get(at(state, i))), get(local), get(active))),
    ),
    ...addresses.flatMap((local) => set(local, i32.add(get(local), i32.constant(64)))),
    ...set(remaining, v128.add(get(remaining), minusOne)),
  ];
  const group: Code = [
    ...addresses.flatMap((local, lane) => set(local, i32.load(get(table), MEMORY.addresses + 4 * lane))),
    ...set(remaining, v128.load(get(table), MEMORY.counts)),
    ...hash.flatMap((local, i) => set(local, v128.splat(i32.constant(at(initial, i))))),
    ...repeatWhile(block, v128.anyTrue(isLeft)),
    ...[0, 1, 2, 3].flatMap((lane) =>
      hash.flatMap((local, i) => v128.storeLane(get(digests), 32 * lane + 4 * i, get(local), lane)),
    ),
    ...set(digests, i32.add(get(digests), i32.constant(128))),
    ...set(table, i32.add(get(table), i32.constant(16))),
    ...set(groups, i32.add(get(groups), i32.constant(-1))),
  ];
  const body = repeatWhile(group, get(groups));
  return { name: functionName, parameters, locals: locals.types, body };
}

/**
 * `extend(digests, count)`: extends the PCR of MEMORY by `count` digests one after the other. Returns after how many it
 * was the quoted one, or 0. At least one digest.
 */
function extendChain() {
  const parameters = ['i32', 'i32'] as const;
  const [digests, count] = [0, 1];
  const locals = new Locals(parameters.length);
  const done = locals.one('i32');
  const pcr = locals.many('i32', 8);
  const state = locals.many('i32', 8);
  const schedule = locals.many('i32', 16);
  const spare = locals.many('i32', 3);
  const zero = i32.constant(0);
  // What follows 64 bytes: a one bit, zeros, and the length of 512 bits. Its schedule is known.
  const padding = Array.from({ length: 64 }, (_, i) => (i === 0 ? 0x80000000 | 0 : i === 15 ? 512 : 0));
  const rotated = (x: number, bits: number) => (x >>> bits) | (x << (32 - bits));
  for (let i = 16; i < 64; i++) {
    const [x, y] = [padding[i - 15] ?? 0, padding[i - 2] ?? 0];
    const s0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3);
    const s1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10);
    padding[i] = ((padding[i - 16] ?? 0) + s0 + (padding[i - 7] ?? 0) + s1) | 0;
  }
  const differs = pcr
    .map((local, i) => i32.xor(get(local), i32.load(zero, MEMORY.quotedPcr + 4 * i)))
    .reduce((all, one) => i32.or(all, one));
  const storePcr = pcr.flatMap((local, i) => i32.store(zero, MEMORY.pcr + 4 * i, get(local)));
  const step: Code = [
    ...pcr.flatMap((local, i) => set(at(schedule, i), get(local))),
    ...pcr.flatMap((_, i) => set(at(schedule, 8 + i), i32.load(get(digests), 4 * i))),
    ...state.flatMap((local, i) => set(local, i32.constant(at(SHA256_INITIAL, i)))),
    ...sha256Rounds(ONE, state, schedule, false, spare),
    ...state.flatMap((local, i) =>
      set(at(pcr, i), tee(local, i32.add(get(local), i32.constant(at(SHA256_INITIAL, i))))),
    ),
    ...sha256Rounds(ONE, state, padding, true, spare),
    ...pcr.flatMap((local, i) => set(local, i32.add(get(local), get(at(state, i))))),
    ...set(digests, i32.add(get(digests), i32.constant(32))),
    ...i32.store(i32.shiftLeft(get(done), 2), MEMORY.running, get(at(pcr, 0))),
    ...set(done, i32.add(get(done), i32.constant(1))),
    ...when(i32.isZero(differs), [...storePcr, ...returned(get(done))]),
    ...set(count, i32.add(get(count), i32.constant(-1))),
  ];
  const body = [
    ...pcr.flatMap((local, i) => set(local, i32.load(zero, MEMORY.pcr + 4 * i))),
    ...repeatWhile(step, get(count)),
    ...storePcr,
    ...zero,
  ];
  return { name: 'extend', parameters, result: 'i32', locals: locals.types, body } as const;
}

/** The functions of the module, which work in `memory`, laid out as `MEMORY` says. */
export type ShaModule = {
  readonly memory: ArrayBuffer;
  readonly sha1: (digests: number, groups: number) => void;
  readonly sha256: (digests: number, groups: number) => void;
  readonly extend: (digests: number, count: number) => number;
  readonly matchLines: MatchLines;
};

let compiled: object | null | undefined;

function compile(): object | null {
  if (endianness() !== 'LE') return null;
  const data = new Uint8Array(Int32Array.from([...SHA256_K, ...SHA1_K]).buffer);
  const bytes = encodeModule(
    [
      digestFour('sha1', SHA1_INITIAL, (_, state, schedule) => sha1Rounds(FOUR, state, schedule)),
      digestFour('sha256', SHA256_INITIAL, (locals, state, schedule) =>
        sha256Rounds(FOUR, state, schedule, false, locals.many('v128', 3)),
      ),
      extendChain(),
      matchLines(MEMORY),
    ],
    MEMORY.pages,
    data,
  );
  return compileModule(bytes) ?? null;
}

/**
 * The module with a memory of its own, in which `knownBytes` from `MEMORY.known` on are the caller's; `undefined` on a
 * processor without 128-bit SIMD, or whose words are not little-endian.
 */
export function makeShaModule(knownBytes = 0): ShaModule | undefined {
  compiled ??= compile();
  if (compiled === null) return undefined;
  const bytes = knownBytes === 0 ? 64 * 1024 * MEMORY.pages : MEMORY.known + knownBytes;
  return instantiateModule<Omit<ShaModule, 'memory'>>(compiled, Math.ceil(bytes / (64 * 1024)));
}
