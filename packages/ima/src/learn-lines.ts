import { COLUMN_START, hexOf, lastOf } from './hex-column.ts';
import { MEMORY } from './list-memory.ts';
import { firstPlace, RECORD } from './match-lines.ts';
import { type Code, get, i32, Locals, repeatWhile, returned, set, v128, type WasmFunction, when } from './wasm.ts';

/**
 * Adds the first `count` lines of a batch, all of them files, to the known ones, each with its digest as its template hash
 * column. The digests are those to which the table `columns` leads, `lastBytes` longer than 16. Records are put from `free` on,
 * and none reaches behind `end`. Returns where the next one would go. Address `count` of the starts of lines is that of the end.
 */
export type LearnLines = (
  count: number,
  columns: number,
  lastBytes: number,
  mask: number,
  free: number,
  end: number,
) => number;

export function learnLines(): WasmFunction {
  const parameters = ['i32', 'i32', 'i32', 'i32', 'i32', 'i32'] as const;
  const [count, columns, lastBytes, mask, free, end] = [0, 1, 2, 3, 4, 5];
  const locals = new Locals(parameters.length);
  const [entry, line, column, digest] = locals.many('i32', 4) as [number, number, number, number];
  const [length, next, place, offset] = locals.many('i32', 4) as [number, number, number, number];
  const hex = hexOf(locals);
  const ofEntry = (table: number): Code => i32.load(i32.shiftLeft(get(entry), 2), table);
  const write = (characters: Code, at: number): Code => v128.store(get(column), at, characters);

  const writeColumn: Code = [
    ...set(digest, i32.load(i32.add(get(columns), i32.shiftLeft(get(entry), 2)), 0)),
    ...set(column, i32.add(get(line), i32.constant(COLUMN_START))),
    ...hex(v128.load(get(digest), 0), write),
    ...set(column, lastOf(column, lastBytes)),
    ...hex(v128.load(i32.add(get(digest), get(lastBytes)), 0), write),
  ];
  const findPlace: Code = [
    ...firstPlace(line, place),
    // The place before the first, for the loop looks at the one behind.
    ...set(place, i32.subtract(get(place), i32.constant(1))),
    ...repeatWhile(
      set(place, i32.and(i32.add(get(place), i32.constant(1)), get(mask))),
      i32.load(i32.shiftLeft(get(place), 3), MEMORY.known),
    ),
    ...i32.store(i32.shiftLeft(get(place), 3), MEMORY.known, get(free)),
    ...i32.store(i32.shiftLeft(get(place), 3), MEMORY.known + 4, get(length)),
  ];
  const copyRecord: Code = [
    ...set(digest, ofEntry(MEMORY.places)),
    ...v128.store(get(free), RECORD.digest, v128.load(get(digest), 0)),
    ...v128.store(get(free), RECORD.digest + 16, v128.load(get(digest), 16)),
    ...set(offset, i32.constant(0)),
    ...repeatWhile(
      [
        ...v128.store(i32.add(get(free), get(offset)), RECORD.line, v128.load(i32.add(get(line), get(offset)), 0)),
        ...set(offset, i32.add(get(offset), i32.constant(16))),
      ],
      i32.lessThan(get(offset), get(length)),
    ),
  ];
  const learn: Code = [
    ...set(line, ofEntry(MEMORY.lineStarts)),
    ...set(length, i32.subtract(ofEntry(MEMORY.lineStarts + 4), get(line))),
    ...set(next, i32.and(i32.add(i32.add(get(free), get(length)), i32.constant(RECORD.line + 15)), i32.constant(-16))),
    ...when(i32.lessThan(get(end), get(next)), returned(get(free))),
    ...writeColumn,
    ...findPlace,
    ...copyRecord,
    ...set(free, get(next)),
    ...set(entry, i32.add(get(entry), i32.constant(1))),
  ];
  const body = [
    ...repeatWhile(when(i32.lessThan(get(entry), get(count)), learn), i32.lessThan(get(entry), get(count))),
    ...get(free),
  ];
  return { name: 'learnLines', parameters, result: 'i32', locals: locals.types, body };
}
