/** A set of code points as sorted, disjoint, non-adjacent ranges `[low, high]`, both included. */
export type CodePoints = readonly (readonly [low: number, high: number])[];

/** The last code point of Unicode. */
export const MAX_CODE_POINT = 0x10ffff;

/** The set of one code point. */
export const single = (codePoint: number): CodePoints => [[codePoint, codePoint]];

/** All that is in any of the sets, as ranges in order that do not touch. */
export function union(...sets: readonly CodePoints[]): CodePoints {
  const merged: [number, number][] = [];
  for (const [low, high] of sets.flat().sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else merged.push([low, high]);
  }
  return merged;
}

/** All code points that are not in `set`, which must be in order. */
export function complement(set: CodePoints): CodePoints {
  const rest: [number, number][] = [];
  let from = 0;
  for (const [low, high] of set) {
    if (low > from) rest.push([from, low - 1]);
    from = high + 1;
  }
  if (from <= MAX_CODE_POINT) rest.push([from, MAX_CODE_POINT]);
  return rest;
}

/** Whether the code point is in `set`. */
export function contains(set: CodePoints, codePoint: number): boolean {
  let low = 0;
  let high = set.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((set[middle]?.[1] ?? 0) < codePoint) low = middle + 1;
    else high = middle;
  }
  const range = set[low];
  return range !== undefined && range[0] <= codePoint;
}

/** Everything that a one-character pattern matches. Takes some 50 ms, so ask once and keep the answer. */
function matchedBy(pattern: RegExp): CodePoints {
  const ranges: [number, number][] = [];
  for (let codePoint = 0; codePoint <= MAX_CODE_POINT; codePoint++) {
    if (!pattern.test(String.fromCodePoint(codePoint))) continue;
    const last = ranges.at(-1);
    if (last?.[1] === codePoint - 1) last[1] = codePoint;
    else ranges.push([codePoint, codePoint]);
  }
  return ranges;
}

function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/** A class of characters on text and, with flag `a`, on ASCII only. */
export type CharacterClass = { readonly unicode: () => CodePoints; readonly ascii: () => CodePoints };

/** Python's `\d`, `\w` and `\s` (Python 3.11 `re`, `str.isspace`). */
export const DIGITS: CharacterClass = {
  unicode: once(() => matchedBy(/^\p{Nd}$/u)),
  ascii: () => [[0x30, 0x39]],
};
export const WORD: CharacterClass = {
  unicode: once(() => matchedBy(/^[\p{L}\p{N}_]$/u)),
  ascii: () => [
    [0x30, 0x39],
    [0x41, 0x5a],
    [0x5f, 0x5f],
    [0x61, 0x7a],
  ],
};
/** Python counts the separators U+001C to U+001F among white space on text. */
export const SPACE: CharacterClass = {
  unicode: () => [
    [0x09, 0x0d],
    [0x1c, 0x20],
    [0x85, 0x85],
    [0xa0, 0xa0],
    [0x1680, 0x1680],
    [0x2000, 0x200a],
    [0x2028, 0x2029],
    [0x202f, 0x202f],
    [0x205f, 0x205f],
    [0x3000, 0x3000],
  ],
  ascii: () => [
    [0x09, 0x0d],
    [0x20, 0x20],
  ],
};

/** Characters with the one that Python takes for the same (simple case folding of Unicode), where JavaScript's mapping is several. */
const FOLDED: ReadonlyMap<string, string> = new Map([
  ['\u0130', 'i'],
  ['\u1fd3', '\u0390'],
  ['\u1fe3', '\u03b0'],
  ['\ufb05', '\ufb06'],
]);

/** All cases of each code point that has several. No letter with case lies above U+1FFFF. */
const caseFamilies = once(() => {
  const byFolded = new Map<string, number[]>();
  for (let codePoint = 0; codePoint <= 0x1ffff; codePoint++) {
    const character = String.fromCodePoint(codePoint);
    const folded = FOLDED.get(character) ?? oneCharacter(oneCharacter(character, 'toUpperCase'), 'toLowerCase');
    const family = byFolded.get(folded);
    if (family === undefined) byFolded.set(folded, [codePoint]);
    else family.push(codePoint);
  }
  const families = [...byFolded.values()].filter((family) => family.length > 1);
  return new Map(families.flatMap((family) => family.map((codePoint) => [codePoint, family] as const)));
});

/** The case mapping of a character if it is one character, else the character. */
function oneCharacter(character: string, change: 'toUpperCase' | 'toLowerCase'): string {
  const changed = character[change]();
  return [...changed].length === 1 ? changed : character;
}

/** `set` with the other cases of all that is in it; with `ascii` only A to Z have another case. */
export function ignoreCase(set: CodePoints, ascii: boolean): CodePoints {
  const families = caseFamilies();
  const [only] = set;
  const hasCase = (codePoint: number) => !ascii || codePoint < 0x80;
  const cased =
    set.length === 1 && only?.[0] === only?.[1]
      ? [hasCase(only?.[0] ?? 0) ? (families.get(only?.[0] ?? 0) ?? []) : []]
      : [...families]
          .filter(([codePoint]) => hasCase(codePoint) && contains(set, codePoint))
          .map(([, family]) => family);
  const others = cased.flat().filter(hasCase);
  return others.length === 0 ? set : union(set, ...others.map(single));
}
