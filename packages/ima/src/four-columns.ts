import { at, type Code, get, type Locals, set, v128, words } from './wasm.ts';

/** Four rows of four words each become four columns: locals of the same words of all rows. */
export function fourColumns(locals: Locals): (row: (lane: number) => Code, column: (word: number) => number) => Code {
  const rows = locals.many('v128', 4);
  const pairs = locals.many('v128', 4);
  const row = (i: number) => get(at(rows, i));
  return (load, column) => [
    ...rows.flatMap((local, lane) => set(local, load(lane))),
    ...set(at(pairs, 0), v128.shuffle(row(0), row(1), words(0, 4, 1, 5))),
    ...set(at(pairs, 1), v128.shuffle(row(2), row(3), words(0, 4, 1, 5))),
    ...set(at(pairs, 2), v128.shuffle(row(0), row(1), words(2, 6, 3, 7))),
    ...set(at(pairs, 3), v128.shuffle(row(2), row(3), words(2, 6, 3, 7))),
    ...[0, 1, 2, 3].flatMap((i) => {
      const pair = i < 2 ? 0 : 2;
      const lanes = i % 2 === 0 ? words(0, 1, 4, 5) : words(2, 3, 6, 7);
      return set(column(i), v128.shuffle(get(at(pairs, pair)), get(at(pairs, pair + 1)), lanes));
    }),
  ];
}
