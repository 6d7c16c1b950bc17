import type { Automaton } from './automaton.ts';
import type { Assertion } from './regular-expression.ts';

/** Outcomes of a step besides the number of the next deterministic state. */
const UNKNOWN = -1;
const MATCHED = -2;
const LOST = -3;

/** What of the character before a position assertions ask for. */
const AT_START = 1;
const AFTER_NEWLINE = 2;
const AFTER_UNICODE_WORD = 4;
const AFTER_ASCII_WORD = 8;

/** Numbers kept in the cache of deterministic states, 4 bytes each, before it is emptied. */
const CACHE_NUMBERS = 4_000_000;

type DeterministicState = {
  /** Automaton states, before passing those that consume no character. */
  readonly core: Int32Array;
  readonly before: number;
  /** Next state or outcome by symbol. */
  readonly steps: Int32Array;
};

export type Matcher = {
  readonly matches: (name: string) => boolean;
  /** The same for a name that is there as bytes from `from` to `to`, all of them ASCII. */
  readonly matchesAscii: (bytes: Uint8Array, from: number, to: number) => boolean;
};

/**
 * Tells whether any expression of `automaton` matches a beginning of a name (Python `re.match`): the subset construction
 * done lazily, so that one table look-up per character remains whatever the expressions, and their number, are. A cache
 * that grew full is emptied, so memory is bounded and time linear in the name for every pattern.
 */
export function createMatcher(automaton: Automaton, cacheNumbers = CACHE_NUMBERS): Matcher {
  const { states, alphabet } = automaton;
  const { ascii, symbolCount, symbolOf } = alphabet;
  const newline = symbolOf(0x0a);
  const finalNewline = symbolCount;
  const end = symbolCount + 1;
  const contexts = usedContexts(automaton);

  let numbered: DeterministicState[] = [];
  let numbers = new Map<string, number>();
  let cached = 0;
  // Numbers of rounds are exact up to 2^53: one that wrapped would not know what it has seen, and go round for ever.
  const seen = new Float64Array(states.length);
  let round = 0;

  const numberOf = (core: Int32Array, before: number): number => {
    const key = `${before}:${core.join()}`;
    const known = numbers.get(key);
    if (known !== undefined) return known;
    cached += 2 * core.length + symbolCount + 16;
    if (cached > cacheNumbers) {
      numbered = [];
      numbers = new Map();
      start = undefined;
      cached = 2 * core.length + symbolCount + 16;
    }
    numbers.set(key, numbered.length);
    return numbered.push({ core, before, steps: new Int32Array(symbolCount + 2).fill(UNKNOWN) }) - 1;
  };

  const startCore = Int32Array.from(new Set(automaton.start)).sort();
  let start: DeterministicState | undefined;

  const holds = (assertion: Assertion, before: number, symbol: number): boolean => {
    switch (assertion) {
      case 'start':
        return (before & AT_START) !== 0;
      case 'line_start':
        return (before & (AT_START | AFTER_NEWLINE)) !== 0;
      case 'end':
        return symbol === end;
      case 'end_or_final_newline':
        return symbol === end || symbol === finalNewline;
      case 'line_end':
        return symbol === end || symbol === finalNewline || symbol === newline;
      case 'word_boundary_unicode':
        return ((before & AFTER_UNICODE_WORD) !== 0) !== (alphabet.isWord.unicode[symbol] === 1);
      case 'no_word_boundary_unicode':
        return ((before & AFTER_UNICODE_WORD) !== 0) === (alphabet.isWord.unicode[symbol] === 1);
      case 'word_boundary_ascii':
        return ((before & AFTER_ASCII_WORD) !== 0) !== (alphabet.isWord.ascii[symbol] === 1);
      case 'no_word_boundary_ascii':
        return ((before & AFTER_ASCII_WORD) !== 0) === (alphabet.isWord.ascii[symbol] === 1);
    }
  };

  /** One step of the automaton: all states reachable over `symbol`, given what came before it. */
  const step = ({ core, before }: DeterministicState, symbol: number): number => {
    round++;
    const consumed = symbol === finalNewline ? newline : symbol;
    const next = new Set<number>();
    const waiting = [...core];
    for (let id = waiting.pop(); id !== undefined; id = waiting.pop()) {
      const state = states[id];
      if (seen[id] === round || state === undefined) continue;
      seen[id] = round;
      switch (state.type) {
        case 'match':
          return MATCHED;
        case 'split':
          for (const branch of state.next) waiting.push(branch);
          break;
        case 'assertion':
          if (holds(state.assertion, before, symbol)) waiting.push(state.next);
          break;
        case 'character':
          if (symbol !== end && alphabet.members[state.set]?.[consumed] === 1) next.add(state.next);
      }
    }
    if (next.size === 0) return LOST;
    const after =
      (consumed === newline ? AFTER_NEWLINE : 0) |
      (alphabet.isWord.unicode[consumed] === 1 ? AFTER_UNICODE_WORD : 0) |
      (alphabet.isWord.ascii[consumed] === 1 ? AFTER_ASCII_WORD : 0);
    return numberOf(Int32Array.from(next).sort(), after & contexts);
  };

  const startState = (): DeterministicState | undefined => {
    if (start === undefined) {
      // Emptying the cache replaces `numbered`, so the number comes first.
      const number = numberOf(startCore, AT_START & contexts);
      start = numbered[number];
    }
    return start;
  };

  /** The number of the state after `symbol`, or how it ends. */
  const after = (state: DeterministicState, symbol: number): number => {
    const known = state.steps[symbol] ?? LOST;
    if (known !== UNKNOWN) return known;
    const number = step(state, symbol);
    state.steps[symbol] = number;
    return number;
  };

  return {
    matches(name) {
      let state = startState();
      for (let at = 0; state !== undefined; ) {
        let symbol = end;
        if (at < name.length) {
          const codeUnit = name.charCodeAt(at++);
          if (codeUnit < 128) {
            symbol = codeUnit === 0x0a && at === name.length ? finalNewline : (ascii[codeUnit] ?? 0);
          } else {
            const codePoint = name.codePointAt(at - 1) ?? 0;
            if (codePoint > 0xffff) at++;
            symbol = symbolOf(codePoint);
          }
        }
        const number = after(state, symbol);
        if (number < 0) return number === MATCHED;
        state = numbered[number];
      }
      return false;
    },
    matchesAscii(bytes, from, to) {
      let state = startState();
      for (let at = from; state !== undefined; at++) {
        const code = at < to ? (bytes[at] as number) : -1;
        const symbol = code < 0 ? end : code === 0x0a && at + 1 === to ? finalNewline : (ascii[code] ?? 0);
        const number = after(state, symbol);
        if (number < 0) return number === MATCHED;
        state = numbered[number];
      }
      return false;
    },
  };
}

/** Which facts about the character before can matter: the fewer, the fewer deterministic states. */
function usedContexts({ states }: Automaton): number {
  let contexts = 0;
  for (const state of states) {
    if (state.type !== 'assertion') continue;
    if (state.assertion === 'start') contexts |= AT_START;
    if (state.assertion === 'line_start') contexts |= AT_START | AFTER_NEWLINE;
    if (state.assertion.endsWith('_unicode')) contexts |= AFTER_UNICODE_WORD;
    if (state.assertion.endsWith('_ascii')) contexts |= AFTER_ASCII_WORD;
  }
  return contexts;
}
