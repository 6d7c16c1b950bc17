import { at, type Code, get, i32, set, tee, type ValueType, v128 } from './wasm.ts';

/*
 * The rounds of SHA-1 and SHA-256 (FIPS 180-4) as WebAssembly, for one message or for four. After all rounds of a block
 * every variable of the state is back in the local it came from.
 */

export const SHA256_K = fractionalParts(64, 1 / 3);
export const SHA256_INITIAL = fractionalParts(8, 1 / 2);
const SHA1_K = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6];
export const SHA1_INITIAL = [0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0];
const SHA1_K_OFFSET = 4 * SHA256_K.length;
/** What the module has at the beginning of its memory. */
export const SHA_CONSTANTS: readonly number[] = [...SHA256_K, ...SHA1_K];

/** First 32 bits of the fractional parts of roots of the first primes (FIPS 180-4, 4.2.2 and 5.3.3). */
function fractionalParts(count: number, exponent: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((prime) => n % prime !== 0)) primes.push(n);
  return primes.map((prime) => ((prime ** exponent % 1) * 2 ** 32) | 0);
}

/** What SHA is made of, for one 32-bit word or for four. */
export type Word = {
  readonly type: ValueType;
  readonly add: (...operands: Code[]) => Code;
  readonly and: (...operands: Code[]) => Code;
  readonly or: (...operands: Code[]) => Code;
  readonly xor: (...operands: Code[]) => Code;
  readonly shiftRight: (value: Code, bits: number) => Code;
  readonly rotateRight: (value: Code, bits: number) => Code;
};

export const ONE: Word = { type: 'i32', ...i32 };
export const FOUR: Word = { type: 'v128', ...v128 };

/** The constant at `offset` of the module's memory, four times. */
const constant = (offset: number): Code => v128.loadSplat(i32.constant(0), offset);

const sum = (word: Word, first: Code, ...rest: Code[]): Code =>
  rest.reduce((total, next) => word.add(total, next), first);

export const smallSigma0 = ({ xor, rotateRight, shiftRight }: Word, x: Code): Code =>
  xor(xor(rotateRight(x, 7), rotateRight(x, 18)), shiftRight(x, 3));
const smallSigma1 = ({ xor, rotateRight, shiftRight }: Word, x: Code): Code =>
  xor(xor(rotateRight(x, 17), rotateRight(x, 19)), shiftRight(x, 10));
const largeSigma = ({ xor, rotateRight }: Word, x: Code, [a, b, c]: readonly [number, number, number]): Code =>
  xor(xor(rotateRight(x, a), rotateRight(x, b)), rotateRight(x, c));

/** What `sha256Round` works in: the state, a to h, and three locals of its own. */
export type Sha256Locals = { readonly state: readonly number[]; readonly spare: readonly [number, number, number] };

/** To be done before the first round: maj(a, b, c) = ((a ^ b) & (b ^ c)) ^ b, and b ^ c is the a ^ b of the round before. */
export const beforeSha256Rounds = (word: Word, { state, spare: [, , change] }: Sha256Locals): Code =>
  set(change, word.xor(get(at(state, 1)), get(at(state, 2))));

/** One round with the sum of its constant and its word of the schedule. */
export function sha256Round(word: Word, { state, spare }: Sha256Locals, round: number, sumOfKAndW: Code): Code {
  const { xor, and, add } = word;
  const [a, b, , d, e, f, g, h] = Array.from({ length: 8 }, (_, i) => at(state, i + 64 - round)) as Eight;
  const [t1, ...changes] = spare;
  const [now, before] = [at(changes, round), at(changes, round + 1)];
  const choice = xor(get(g), and(get(e), xor(get(f), get(g))));
  const majority = xor(and(tee(now, xor(get(a), get(b))), get(before)), get(b));
  return [
    ...set(t1, sum(word, get(h), sumOfKAndW, choice, largeSigma(word, get(e), [6, 11, 25]))),
    ...set(d, add(get(d), get(t1))),
    ...set(h, sum(word, get(t1), majority, largeSigma(word, get(a), [2, 13, 22]))),
  ];
}

type Eight = [number, number, number, number, number, number, number, number];

/** The 64 rounds for four messages, over the 16 locals `schedule`. */
export function sha256RoundsOfFour(locals: Sha256Locals, schedule: readonly number[]): Code {
  const rounds = Array.from({ length: 64 }, (_, round): Code => {
    const word = (back: number) => get(at(schedule, round + 64 - back));
    const w = at(schedule, round);
    const next = sum(FOUR, get(w), smallSigma0(FOUR, word(15)), word(7), smallSigma1(FOUR, word(2)));
    const sumOfKAndW = v128.add(constant(4 * round), get(w));
    return [...(round < 16 ? [] : set(w, next)), ...sha256Round(FOUR, locals, round, sumOfKAndW)];
  });
  return [...beforeSha256Rounds(FOUR, locals), ...rounds.flat()];
}

/** The schedule of a block whose words are known. */
export function sha256Schedule(block: readonly number[]): number[] {
  const rotated = (x: number, bits: number) => (x >>> bits) | (x << (32 - bits));
  const schedule = [...block];
  for (let i = 16; i < 64; i++) {
    const [x, y] = [schedule[i - 15] ?? 0, schedule[i - 2] ?? 0];
    const s0 = rotated(x, 7) ^ rotated(x, 18) ^ (x >>> 3);
    const s1 = rotated(y, 17) ^ rotated(y, 19) ^ (y >>> 10);
    schedule.push(((schedule[i - 16] ?? 0) + s0 + (schedule[i - 7] ?? 0) + s1) | 0);
  }
  return schedule;
}

/** The 80 rounds of SHA-1 for four messages, over the locals `state` (a to e) and the 16 locals `schedule`. */
export function sha1RoundsOfFour(state: readonly number[], schedule: readonly number[]): Code {
  const { xor, and, or, rotateRight } = FOUR;
  const rounds = Array.from({ length: 80 }, (_, round): Code => {
    const [a, b, c, d, e] = Array.from({ length: 5 }, (_, i) => at(state, i + 80 - round)) as Five;
    const w = at(schedule, round);
    const mixed = [13, 8, 2].reduce((x, i) => xor(x, get(at(schedule, round + i))), get(w));
    const phase = Math.floor(round / 20);
    const mix =
      phase === 0
        ? xor(get(d), and(get(b), xor(get(c), get(d))))
        : phase === 2
          ? or(and(get(b), get(c)), and(get(d), or(get(b), get(c))))
          : xor(xor(get(b), get(c)), get(d));
    const k = constant(SHA1_K_OFFSET + 4 * phase);
    return [
      ...(round < 16 ? [] : set(w, rotateRight(mixed, 31))),
      ...set(e, sum(FOUR, get(e), get(w), k, mix, rotateRight(get(a), 27))),
      ...set(b, rotateRight(get(b), 2)),
    ];
  });
  return rounds.flat();
}

type Five = [number, number, number, number, number];
