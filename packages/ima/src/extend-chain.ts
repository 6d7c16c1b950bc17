import { EXTEND, SECOND_BLOCK_SUMS } from './extend-memory.ts';
import {
  beforeSha256Rounds,
  FOUR,
  ONE,
  SHA256_INITIAL,
  type Sha256Locals,
  sha256Round,
  smallSigma0,
} from './sha-rounds.ts';
import {
  at,
  type Code,
  get,
  i32,
  Locals,
  repeatWhile,
  returned,
  set,
  tee,
  v128,
  type WasmFunction,
  when,
  words,
} from './wasm.ts';

/**
 * Extends the PCR of EXTEND by `count` digests one after the other, each a hash of two blocks that cannot begin before the
 * one before it has ended, and stores the first word after each where `values` says. Returns after how many it was the quoted
 * one, or 0. At least one digest.
 */
export type Extend = (digests: number, count: number, values: number) => number;

const ZERO = i32.constant(0);

export function extendChain(): WasmFunction {
  const parameters = ['i32', 'i32', 'i32'] as const;
  const [digests, count, values] = [0, 1, 2];
  const locals = new Locals(parameters.length);
  const done = locals.one('i32');
  const pcr = locals.many('i32', 8);
  const state = locals.many('i32', 8);
  const rounds: Sha256Locals = { state, spare: locals.many('i32', 3) as unknown as Sha256Locals['spare'] };
  const schedule = vectorSchedule(locals);

  const initial = (i: number) => i32.constant(at(SHA256_INITIAL, i));
  const secondBlock = SECOND_BLOCK_SUMS.flatMap((sum, round) => sha256Round(ONE, rounds, round, i32.constant(sum)));
  const differs = pcr
    .map((local, i) => i32.xor(get(local), i32.load(ZERO, EXTEND.quotedPcr + 4 * i)))
    .reduce((all, one) => i32.or(all, one));
  const storePcr = pcr.flatMap((local, i) => i32.store(ZERO, EXTEND.pcr + 4 * i, get(local)));
  const step: Code = [
    ...schedule.load(pcr, digests),
    ...state.flatMap((local, i) => set(local, initial(i))),
    ...beforeSha256Rounds(ONE, rounds),
    ...Array.from({ length: 16 }, (_, quarter) => [
      ...schedule.next(quarter),
      ...[0, 1, 2, 3].flatMap((i) => sha256Round(ONE, rounds, 4 * quarter + i, schedule.sum(4 * quarter + i))),
    ]).flat(),
    ...state.flatMap((local, i) => set(at(pcr, i), tee(local, i32.add(get(local), initial(i))))),
    ...beforeSha256Rounds(ONE, rounds),
    ...secondBlock,
    ...pcr.flatMap((local, i) => set(local, i32.add(get(local), get(at(state, i))))),
    ...set(digests, i32.add(get(digests), i32.constant(32))),
    ...i32.store(get(values), 0, get(at(pcr, 0))),
    ...set(values, i32.add(get(values), i32.constant(EXTEND.valueBytes))),
    ...set(done, i32.add(get(done), i32.constant(1))),
    ...when(i32.isZero(differs), [...storePcr, ...returned(get(done))]),
    ...set(count, i32.add(get(count), i32.constant(-1))),
  ];
  const body = [
    ...schedule.begin,
    ...pcr.flatMap((local, i) => set(local, i32.load(ZERO, EXTEND.pcr + 4 * i))),
    ...repeatWhile(step, get(count)),
    ...storePcr,
    ...ZERO,
  ];
  return { name: 'extend', parameters, result: 'i32', locals: locals.types, body };
}

/**
 * The schedule of one block, four words at a time: other parts of a processor work on it than on the rounds, which are one
 * long chain.
 */
function vectorSchedule(locals: Locals) {
  const quarters = locals.many('v128', 4);
  const [next, part, zeros] = [locals.one('v128'), locals.one('v128'), locals.one('v128')];
  const quarter = (i: number) => get(at(quarters, i));
  // A word beside itself is one of 64 bits, which a shift to the right rotates into the lower half.
  const smallSigma1OfTwo = set(
    part,
    v128.xor(
      v128.xor(v128.shiftRight64(get(part), 17), v128.shiftRight64(get(part), 19)),
      v128.shiftRight(get(part), 10),
    ),
  );
  const vectorOf = ([first = 0, ...rest]: readonly number[]): Code =>
    rest.reduce<Code>((vector, local, i) => v128.replaceLane(vector, i + 1, get(local)), v128.splat(get(first)));
  return {
    begin: set(zeros, v128.splat(ZERO)),
    /** The PCR and then the digest at the address. */
    load: (pcr: readonly number[], address: number): Code => [
      ...set(at(quarters, 0), vectorOf(pcr.slice(0, 4))),
      ...set(at(quarters, 1), vectorOf(pcr.slice(4))),
      ...set(at(quarters, 2), v128.load(get(address), 0)),
      ...set(at(quarters, 3), v128.load(get(address), 16)),
    ],
    /** Stores four words with their constants added, and makes those that come 16 words later. */
    next: (i: number): Code => [
      ...v128.store(ZERO, EXTEND.schedule + 16 * i, v128.add(v128.load(ZERO, EXTEND.constants + 16 * i), quarter(i))),
      ...(i >= 12
        ? []
        : [
            ...set(next, v128.shuffle(quarter(i), quarter(i + 1), words(1, 2, 3, 4))),
            ...set(part, v128.shuffle(quarter(i + 2), quarter(i + 3), words(1, 2, 3, 4))),
            ...set(next, v128.add(v128.add(quarter(i), get(part)), smallSigma0(FOUR, get(next)))),
            ...set(part, v128.shuffle(quarter(i + 3), quarter(i + 3), words(2, 2, 3, 3))),
            ...smallSigma1OfTwo,
            ...set(next, v128.add(get(next), v128.shuffle(get(part), get(zeros), words(0, 2, 4, 4)))),
            ...set(part, v128.shuffle(get(next), get(next), words(0, 0, 1, 1))),
            ...smallSigma1OfTwo,
            ...set(at(quarters, i), v128.add(get(next), v128.shuffle(get(part), get(zeros), words(4, 4, 0, 2)))),
          ]),
    ],
    sum: (round: number): Code => i32.load(ZERO, EXTEND.schedule + 4 * round),
  };
}
