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
  /** Per set, per symbol: 1 if the symbol is in the set. */
  readonly members: readonly Uint8Array[];
  readonly isWord: { readonly unicode: Uint8Array; readonly ascii: Uint8Array };
};

export const MAX_STATES_PER_EXPRESSION = 20_000;
export const MAX_STATES = 400_000;
const MAX_ALPHABET_WORK = 50_000_000;

/** Builds the union of `expressions` one by one, so that the one that is too much can be named. */
export class AutomatonBuilder {
  readonly #states: State[] = [{ type: 'match' }];
  readonly #start: number[] = [];
  readonly #sets: CodePoints[] = [];
  readonly #setIds = new Map<string, number>();
  readonly #usesWords = { unicode: false, ascii: false };
  #budget = 0;

  /** Adds an expression; false, and nothing added, if it would need too many states. */
  add(expression: Expression): boolean {
    const before = this.#states.length;
    this.#budget = Math.min(MAX_STATES_PER_EXPRESSION, MAX_STATES - before);
    const start = this.#build(expression, 0);
    if (start === undefined) {
      this.#states.length = before;
      return false;
    }
    this.#start.push(start);
    return true;
  }

  /** The automaton, or `undefined` if its character sets are too many to tell apart. */
  finish(): Automaton | undefined {
    const alphabet = buildAlphabet(this.#sets, this.#usesWords);
    return alphabet && { states: this.#states, start: this.#start, alphabet };
  }

  #push(state: State): number {
    return this.#states.push(state) - 1;
  }

  /** The state from which `expression` leads to state `next`; `undefined` when the budget is spent. */
  #build(expression: Expression, next: number): number | undefined {
    if (--this.#budget < 0) return undefined;
    switch (expression.type) {
      case 'set':
        return this.#push({ type: 'character', set: this.#setId(expression.set), next });
      case 'assertion':
        if (expression.assertion.endsWith('_unicode')) this.#usesWords.unicode = true;
        if (expression.assertion.endsWith('_ascii')) this.#usesWords.ascii = true;
        return this.#push({ type: 'assertion', assertion: expression.assertion, next });
      case 'sequence': {
        let after: number | undefined = next;
        for (const part of expression.parts.toReversed()) {
          if (after !== undefined) after = this.#build(part, after);
        }
        return after;
      }
      case 'alternatives': {
        const branches: number[] = [];
        for (const part of expression.parts) {
          const branch = this.#build(part, next);
          if (branch === undefined) return undefined;
          branches.push(branch);
        }
        return this.#push({ type: 'split', next: branches });
      }
      case 'repeat':
        return this.#buildRepeat(expression, next);
    }
  }

  #buildRepeat({ part, min, max }: Expression & { type: 'repeat' }, next: number): number | undefined {
    let after: number | undefined = next;
    if (max === Number.POSITIVE_INFINITY) {
      const back: number[] = [next];
      after = this.#push({ type: 'split', next: back });
      const body = this.#build(part, after);
      if (body === undefined) return undefined;
      back.push(body);
    }
    for (let count = max === Number.POSITIVE_INFINITY ? min : max; count > 0; count--) {
      const body: number | undefined = this.#build(part, after);
      if (body === undefined) return undefined;
      after = count > min ? this.#push({ type: 'split', next: [next, body] }) : body;
    }
    return after;
  }

  #setId(set: CodePoints): number {
    const key = set.map(([low, high]) => `${low}-${high}`).join();
    const known = this.#setIds.get(key);
    if (known !== undefined) return known;
    this.#setIds.set(key, this.#sets.length);
    return this.#sets.push(set) - 1;
  }
}

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
    symbolOf: (codePoint) => (codePoint < 128 ? (ascii[codePoint] ?? 0) : find(codePoint)),
    members,
    isWord: { unicode: members.at(-2) ?? none, ascii: members.at(-1) ?? none },
  };
}
