import { type CodePoints, MAX_CODE_POINT, WORD } from './code-points.ts';
import type { Assertion, Expression } from './regular-expression.ts';

/** One state of the automaton: consumes a character, or passes without one, or has matched. */
export type State =
  | { readonly type: 'character'; readonly set: number; readonly next: number }
  | { readonly type: 'assertion'; readonly assertion: Assertion; readonly next: number }
  | { readonly type: 'split'; readonly next: readonly number[] }
  | { readonly type: 'match' };

/** A nondeterministic automaton (Thompson) that matches if any of its expressions does. */
export type Automaton = {
  readonly states: readonly State[];
  readonly start: readonly number[];
  readonly alphabet: Alphabet;
};

/** Code points that no expression tells apart are one symbol. */
export type Alphabet = {
  readonly symbolCount: number;
  readonly symbolOf: (codePoint: number) => number;
  /** The same for the first 128 code points. */
  readonly ascii: Uint32Array;
  /** Per set, per symbol: 1 if the symbol is in the set. */
  readonly members: readonly Uint8Array[];
  readonly isWord: { readonly unicode: Uint8Array; readonly ascii: Uint8Array };
};

/** States that an expression needs at most; counted repetitions multiply. Infinite where that is no longer a number. */
export function sizeOf(expression: Expression): number {
  switch (expression.type) {
    case 'set':
    case 'assertion':
      return 1;
    case 'sequence':
    case 'alternatives':
      return expression.parts.reduce((size, part) => size + sizeOf(part), 1);
    case 'repeat': {
      const copies = expression.max === Number.POSITIVE_INFINITY ? expression.min + 1 : expression.max;
      return 1 + copies * (sizeOf(expression.part) + 1);
    }
  }
}

/**
 * Builds the union of `expressions`; the caller has bounded their size. Common beginnings are built once, as are common
 * ends, so that a thousand like patterns are followed as one. `undefined` if the character sets are too many.
 */
export function buildAutomaton(expressions: readonly Expression[]): Automaton | undefined {
  const builder = new Builder();
  const roots = newBranch(undefined);
  const branches = [roots];
  for (const parts of expressions.flatMap(alternativesOf).map(partsOf)) {
    let branch = roots;
    for (const part of parts) {
      const id = builder.idOf(part);
      let next = branch.next.get(id);
      if (next === undefined) {
        next = newBranch(part);
        branches.push(next);
        branch.next.set(id, next);
      }
      branch = next;
    }
    branch.ends = true;
  }
  // A branch is made after the one it grows from, so backwards all that follows a branch has been built.
  for (const branch of branches.toReversed()) {
    const after = [...branch.next.values()].map(({ start }) => start);
    if (branch.ends) after.push(MATCH);
    const [only] = after;
    const next = after.length === 1 && only !== undefined ? only : builder.push({ type: 'split', next: after });
    branch.start = branch.part ? builder.build(branch.part, next) : next;
  }
  const alphabet = buildAlphabet(builder.sets, builder.usesWords);
  return alphabet && { states: builder.states, start: [roots.start], alphabet };
}

const alternativesOf = (expression: Expression): readonly Expression[] =>
  expression.type === 'alternatives' ? expression.parts.flatMap(alternativesOf) : [expression];

const partsOf = (expression: Expression): readonly Expression[] =>
  expression.type === 'sequence' ? expression.parts.flatMap(partsOf) : [expression];

/** A beginning that patterns have in common: its last part, the longer ones, whether a pattern ends here. */
type Branch = {
  readonly part: Expression | undefined;
  readonly next: Map<number, Branch>;
  ends: boolean;
  start: number;
};

const newBranch = (part: Expression | undefined): Branch => ({ part, next: new Map(), ends: false, start: MATCH });

const MATCH = 0;

class Builder {
  readonly states: State[] = [{ type: 'match' }];
  readonly sets: CodePoints[] = [];
  readonly usesWords = { unicode: false, ascii: false };
  readonly #idsByText = new Map<string, number>();
  readonly #ids = new Map<Expression, number>();
  readonly #built = new Map<string, number>();
  readonly #setIds = new Map<string, number>();

  push(state: State): number {
    return this.states.push(state) - 1;
  }

  /** Equal expressions have equal numbers. */
  idOf(expression: Expression): number {
    const known = this.#ids.get(expression);
    if (known !== undefined) return known;
    const text = this.#textOf(expression);
    const id = this.#idsByText.get(text) ?? this.#idsByText.size;
    this.#idsByText.set(text, id);
    this.#ids.set(expression, id);
    return id;
  }

  #textOf(expression: Expression): string {
    switch (expression.type) {
      case 'set':
        return `set ${this.#setId(expression.set)}`;
      case 'assertion':
        return expression.assertion;
      case 'sequence':
      case 'alternatives':
        return `${expression.type} ${expression.parts.map((part) => this.idOf(part))}`;
      case 'repeat':
        return `repeat ${expression.min} ${expression.max} ${this.idOf(expression.part)}`;
    }
  }

  /** The state from which `expression` leads to state `next`. */
  build(expression: Expression, next: number): number {
    const key = `${this.idOf(expression)} ${next}`;
    const known = this.#built.get(key);
    if (known !== undefined) return known;
    const start = this.#buildNew(expression, next);
    this.#built.set(key, start);
    return start;
  }

  #buildNew(expression: Expression, next: number): number {
    switch (expression.type) {
      case 'set':
        return this.push({ type: 'character', set: this.#setId(expression.set), next });
      case 'assertion':
        if (expression.assertion.endsWith('_unicode')) this.usesWords.unicode = true;
        if (expression.assertion.endsWith('_ascii')) this.usesWords.ascii = true;
        return this.push({ type: 'assertion', assertion: expression.assertion, next });
      case 'sequence':
        return expression.parts.reduceRight((after, part) => this.build(part, after), next);
      case 'alternatives':
        return this.push({ type: 'split', next: expression.parts.map((part) => this.build(part, next)) });
      case 'repeat':
        return this.#buildRepeat(expression, next);
    }
  }

  #buildRepeat({ part, min, max }: Expression & { type: 'repeat' }, next: number): number {
    let after = next;
    if (max === Number.POSITIVE_INFINITY) {
      const branches = [next];
      after = this.push({ type: 'split', next: branches });
      branches.push(this.build(part, after));
    }
    for (let count = max === Number.POSITIVE_INFINITY ? min : max; count > 0; count--) {
      const body = this.build(part, after);
      after = count > min ? this.push({ type: 'split', next: [next, body] }) : body;
    }
    return after;
  }

  #setId(set: CodePoints): number {
    const key = set.join(';');
    const id = this.#setIds.get(key) ?? this.sets.length;
    if (id === this.sets.length) {
      this.sets.push(set);
      this.#setIds.set(key, id);
    }
    return id;
  }
}

const MAX_ALPHABET_WORK = 50_000_000;
const NEWLINE: CodePoints = [[0x0a, 0x0a]];

function buildAlphabet(
  sets: readonly CodePoints[],
  usesWords: { readonly unicode: boolean; readonly ascii: boolean },
): Alphabet | undefined {
  // Newlines and, where boundaries of words count, word characters are told apart from others.
  const told = [...sets, NEWLINE, usesWords.unicode ? WORD.unicode() : [], usesWords.ascii ? WORD.ascii() : []];
  const starts = [...new Set([0, ...told.flatMap((set) => set.flatMap(([low, high]) => [low, high + 1]))])]
    .filter((start) => start <= MAX_CODE_POINT)
    .sort((a, b) => a - b);
  if (starts.length * told.length > MAX_ALPHABET_WORK) return undefined;
  const startIndex = new Map(starts.map((start, i) => [start, i]));

  // Intervals that belong to the same sets are one symbol; refined set by set.
  let symbols = new Int32Array(starts.length);
  for (const set of told) {
    const inside = new Uint8Array(starts.length);
    for (const [low, high] of set) {
      inside.fill(1, startIndex.get(low), high >= MAX_CODE_POINT ? starts.length : startIndex.get(high + 1));
    }
    const renamed = new Map<number, number>();
    symbols = symbols.map((symbol, i) => {
      const refined = symbol * 2 + (inside[i] ?? 0);
      if (!renamed.has(refined)) renamed.set(refined, renamed.size);
      return renamed.get(refined) ?? 0;
    });
  }
  const symbolCount = Math.max(...symbols) + 1;

  const find = (codePoint: number): number => {
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((starts[middle] ?? 0) <= codePoint) low = middle;
      else high = middle - 1;
    }
    return symbols[low] ?? 0;
  };
  const ascii = Uint32Array.from({ length: 128 }, (_, codePoint) => find(codePoint));
  const members = told.map((set) => {
    const member = new Uint8Array(symbolCount);
    for (const [low, high] of set) {
      const end = high >= MAX_CODE_POINT ? starts.length : (startIndex.get(high + 1) ?? 0);
      for (let i = startIndex.get(low) ?? 0; i < end; i++) member[symbols[i] ?? 0] = 1;
    }
    return member;
  });
  const none = new Uint8Array(symbolCount);
  return {
    symbolCount,
    symbolOf: find,
    ascii,
    members,
    isWord: { unicode: members.at(-2) ?? none, ascii: members.at(-1) ?? none },
  };
}
