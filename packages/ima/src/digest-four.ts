import { fourColumns } from './four-columns.ts';
import { MEMORY } from './list-memory.ts';
import { SHA1_INITIAL, SHA256_INITIAL, type Sha256Locals, sha1RoundsOfFour, sha256RoundsOfFour } from './sha-rounds.ts';
import { at, type Code, get, i32, Locals, repeatWhile, set, tee, v128, type WasmFunction } from './wasm.ts';

/**
 * Digests of `groups` times four messages, which do not depend on each other: a call of node:crypto costs more than the
 * hash of a line. `places` is a table of the addresses where they go. At least one group.
 */
export type DigestFour = (places: number, groups: number) => void;

export const sha1OfFour = (): WasmFunction =>
  digestFour('sha1', SHA1_INITIAL, (_, state, schedule) => sha1RoundsOfFour(state, schedule));

export const sha256OfFour = (): WasmFunction =>
  digestFour('sha256', SHA256_INITIAL, (locals, state, schedule) => {
    const spare = locals.many('v128', 3) as unknown as Sha256Locals['spare'];
    return sha256RoundsOfFour({ state, spare }, schedule);
  });

const BYTES_SWAPPED = [3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12];

function digestFour(
  name: string,
  initial: readonly number[],
  rounds: (locals: Locals, state: readonly number[], schedule: readonly number[]) => Code,
): WasmFunction {
  const parameters = ['i32', 'i32'] as const;
  const [places, groups] = [0, 1];
  const locals = new Locals(parameters.length);
  const addresses = locals.many('i32', 4);
  const table = locals.one('i32');
  const remaining = locals.one('v128');
  const active = locals.one('v128');
  const hash = locals.many('v128', initial.length);
  const state = locals.many('v128', initial.length);
  const schedule = locals.many('v128', 16);
  const row = locals.one('v128');
  const columns = fourColumns(locals);
  const minusOne = v128.splat(i32.constant(-1));

  // The bytes of a message are big-endian.
  const loadQuarter = (quarter: number): Code =>
    columns(
      (lane) => {
        const loaded = tee(row, v128.load(get(at(addresses, lane)), 16 * quarter));
        return v128.shuffle(loaded, get(row), BYTES_SWAPPED);
      },
      (i) => at(schedule, 4 * quarter + i),
    );
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
    ...addresses.flatMap((local, lane) => [
      ...set(local, i32.load(get(places), 4 * lane)),
      ...hash.flatMap((word, i) => v128.storeLane(get(local), 4 * i, get(word), lane)),
    ]),
    ...set(places, i32.add(get(places), i32.constant(16))),
    ...set(table, i32.add(get(table), i32.constant(16))),
    ...set(groups, i32.add(get(groups), i32.constant(-1))),
  ];
  return { name, parameters, locals: locals.types, body: repeatWhile(group, get(groups)) };
}
