import { EXTEND, LANES } from './extend-memory.ts';
import { fourColumns } from './four-columns.ts';
import {
  beforeSha256Rounds,
  FOUR,
  SHA256_INITIAL,
  type Sha256Locals,
  sha256Round,
  sha256RoundsOfFour,
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
} from './wasm.ts';

/**
 * Extends the PCRs of four sequences at once, from digest number `from` of each up to number `to`, and stores their first words
 * after each extend. Stops after an extend by which one of them may have become its quoted one: the first words are equal.
 * Returns the number of the digest behind it, or `to`. At least one digest.
 */
export type ExtendFour = (from: number, to: number) => number;

export function extendFour(): WasmFunction {
  const parameters = ['i32', 'i32'] as const;
  const [from, to] = [0, 1];
  const locals = new Locals(parameters.length);
  const digest = locals.one('i32');
  const pcrs = locals.many('v128', 8);
  const state = locals.many('v128', 8);
  const schedule = locals.many('v128', 16);
  const rounds: Sha256Locals = { state, spare: locals.many('v128', 3) as unknown as Sha256Locals['spare'] };
  const columns = fourColumns(locals);
  const zero = i32.constant(0);

  const initial = (i: number) => v128.splat(i32.constant(at(SHA256_INITIAL, i)));
  const loadHalf = (half: number): Code =>
    columns(
      (lane) => v128.load(get(digest), EXTEND.digests + EXTEND.laneBytes * lane + 16 * half),
      (i) => at(schedule, 8 + 4 * half + i),
    );
  const secondBlock = Array.from({ length: 64 }, (_, round) =>
    sha256Round(FOUR, rounds, round, v128.loadSplat(zero, EXTEND.secondBlockSums + 4 * round)),
  ).flat();
  const storePcrs = pcrs.flatMap((local, i) => v128.store(zero, EXTEND.pcrs + 4 * LANES * i, get(local)));
  const step: Code = [
    ...set(digest, i32.shiftLeft(get(from), 5)),
    ...pcrs.flatMap((local, i) => set(at(schedule, i), get(local))),
    ...loadHalf(0),
    ...loadHalf(1),
    ...state.flatMap((local, i) => set(local, initial(i))),
    ...sha256RoundsOfFour(rounds, schedule),
    ...state.flatMap((local, i) => set(at(pcrs, i), tee(local, v128.add(get(local), initial(i))))),
    ...beforeSha256Rounds(FOUR, rounds),
    ...secondBlock,
    ...pcrs.flatMap((local, i) => set(local, v128.add(get(local), get(at(state, i))))),
    ...v128.store(i32.shiftLeft(get(from), 4), EXTEND.values, get(at(pcrs, 0))),
    ...set(from, i32.add(get(from), i32.constant(1))),
    ...when(v128.anyTrue(v128.equal(get(at(pcrs, 0)), v128.load(zero, EXTEND.quotedWords))), [
      ...storePcrs,
      ...returned(get(from)),
    ]),
  ];
  const body: Code = [
    ...pcrs.flatMap((local, i) => set(local, v128.load(zero, EXTEND.pcrs + 4 * LANES * i))),
    ...repeatWhile(step, i32.lessThan(get(from), get(to))),
    ...storePcrs,
    ...get(to),
  ];
  return { name: 'extendFour', parameters, result: 'i32', locals: locals.types, body };
}
