import { bad, good, type Parsed } from '@keylime/core/parsed';
import {
  type CharacterClass,
  type CodePoints,
  complement,
  DIGITS,
  ignoreCase,
  MAX_CODE_POINT,
  SPACE,
  single,
  union,
  WORD,
} from './code-points.ts';

/** What has to hold between two characters; `unicode` and `ascii` say which characters make a word. */
export type Assertion =
  | 'start'
  | 'line_start'
  | 'end'
  | 'end_or_final_newline'
  | 'line_end'
  | `${'word_boundary' | 'no_word_boundary'}_${'unicode' | 'ascii'}`;

export type Expression =
  | { readonly type: 'set'; readonly set: CodePoints }
  | { readonly type: 'assertion'; readonly assertion: Assertion }
  | { readonly type: 'sequence' | 'alternatives'; readonly parts: readonly Expression[] }
  | { readonly type: 'repeat'; readonly part: Expression; readonly min: number; readonly max: number };

/** Why a regular expression is refused, and at which character. */
export type ExpressionProblem = { readonly at: number; readonly message: string };

export const MAX_REPEAT = 1000;
const MAX_NESTING = 100;

type Flags = {
  readonly ignoreCase: boolean;
  readonly multiline: boolean;
  readonly dotAll: boolean;
  readonly verbose: boolean;
  readonly ascii: boolean;
};
const FLAGS = { i: 'ignoreCase', m: 'multiline', s: 'dotAll', x: 'verbose', a: 'ascii' } as const;
const NO_FLAGS: Flags = { ignoreCase: false, multiline: false, dotAll: false, verbose: false, ascii: false };

const NEWLINE = single(0x0a);
const EVERYTHING: CodePoints = [[0, MAX_CODE_POINT]];
const ESCAPED: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11, '\\': 92 };
const CLASSES: Readonly<Record<string, CharacterClass>> = { d: DIGITS, w: WORD, s: SPACE };

class Refusal extends Error {
  readonly at: number;
  constructor(at: number, message: string) {
    super(message);
    this.at = at;
  }
}

/**
 * Parses the part of Python's regular expression syntax that can be matched in linear time; refuses the rest by name:
 * back-references, look-around, conditionals, atomic groups, possessive quantifiers. Lazy quantifiers match the same
 * names as greedy ones. Source: Python 3.11 library reference, `re`.
 */
export function parseExpression(pattern: string): Parsed<Expression, ExpressionProblem> {
  try {
    return good(new Parser(pattern).parse());
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return bad({ at: error.at, message: error.message });
  }
}

class Parser {
  readonly #characters: readonly string[];
  readonly #groupNames = new Set<string>();
  #at = 0;
  #nesting = 0;

  constructor(pattern: string) {
    this.#characters = [...pattern];
  }

  parse(): Expression {
    const expression = this.#alternatives(NO_FLAGS);
    if (this.#at < this.#characters.length) this.#refuse('unbalanced parenthesis', this.#at);
    return expression;
  }

  #refuse(message: string, at: number): never {
    throw new Refusal(at, message);
  }

  #peek(): string | undefined {
    return this.#characters[this.#at];
  }

  #accept(text: string): boolean {
    for (let i = 0; i < text.length; i++) if (this.#characters[this.#at + i] !== text[i]) return false;
    this.#at += text.length;
    return true;
  }

  #alternatives(flags: Flags): Expression {
    const parts = [this.#sequence(flags)];
    while (this.#accept('|')) parts.push(this.#sequence(flags));
    return parts.length === 1 && parts[0] ? parts[0] : { type: 'alternatives', parts };
  }

  #sequence(flags: Flags): Expression {
    const parts: Expression[] = [];
    for (;;) {
      this.#skipIgnored(flags);
      const next = this.#peek();
      if (next === undefined || next === '|' || next === ')') return { type: 'sequence', parts };
      const from = this.#at;
      const part = this.#atom(flags);
      this.#skipIgnored(flags);
      parts.push(this.#repeated(part, from, flags));
    }
  }

  /** Comments, and in a verbose expression white space, may stand between a part and its quantifier. */
  #skipIgnored(flags: Flags): void {
    for (;;) {
      const from = this.#at;
      if (this.#accept('(?#')) {
        while (!this.#accept(')'))
          if (this.#at++ >= this.#characters.length) this.#refuse('unterminated comment', from);
      } else if (flags.verbose && this.#accept('#')) {
        while (this.#peek() !== undefined && !this.#accept('\n')) this.#at++;
      } else if (flags.verbose && ' \t\n\r\f\v'.includes(this.#peek() ?? 'none')) {
        this.#at++;
      } else return;
    }
  }

  #repeated(part: Expression, from: number, flags: Flags): Expression {
    const at = this.#at;
    const bounds = this.#bounds();
    if (bounds === undefined) return part;
    const [min, max] = bounds;
    if (part.type === 'assertion') this.#refuse('nothing to repeat', from);
    if (max < min) this.#refuse('the least number of repetitions is greater than the greatest', at);
    if (min > MAX_REPEAT || (max > MAX_REPEAT && max !== Number.POSITIVE_INFINITY)) {
      this.#refuse(`more than ${MAX_REPEAT} counted repetitions`, at);
    }
    if (this.#accept('+')) this.#refuse('possessive quantifiers are not supported', at);
    this.#accept('?');
    this.#skipIgnored(flags);
    const again = this.#at;
    if (this.#bounds() !== undefined) this.#refuse('multiple repeat', again);
    return { type: 'repeat', part, min, max };
  }

  /** A quantifier without its laziness; a brace that begins none is an ordinary character. */
  #bounds(): [min: number, max: number] | undefined {
    if (this.#accept('*')) return [0, Number.POSITIVE_INFINITY];
    if (this.#accept('+')) return [1, Number.POSITIVE_INFINITY];
    if (this.#accept('?')) return [0, 1];
    const start = this.#at;
    if (!this.#accept('{') || this.#peek() === '}') {
      this.#at = start;
      return undefined;
    }
    const low = this.#digits();
    const high = this.#accept(',') ? this.#digits() : low;
    const exact = low === high && this.#characters[this.#at - 1] !== ',';
    if (!this.#accept('}') || (exact && low === '')) {
      this.#at = start;
      return undefined;
    }
    return [Number(low || 0), high === '' ? Number.POSITIVE_INFINITY : Number(high)];
  }

  #digits(): string {
    const from = this.#at;
    while (/^[0-9]$/.test(this.#peek() ?? '')) this.#at++;
    return this.#characters.slice(from, this.#at).join('');
  }

  /** One part without its quantifier. */
  #atom(flags: Flags): Expression {
    const from = this.#at;
    const character = this.#characters[this.#at++] ?? '';
    switch (character) {
      case '.':
        return { type: 'set', set: flags.dotAll ? EVERYTHING : complement(NEWLINE) };
      case '^':
        return { type: 'assertion', assertion: flags.multiline ? 'line_start' : 'start' };
      case '$':
        return { type: 'assertion', assertion: flags.multiline ? 'line_end' : 'end_or_final_newline' };
      case '(':
        return this.#group(flags, from);
      case '[':
        return { type: 'set', set: this.#characterClass(flags, from) };
      case '\\':
        return this.#escape(flags, from);
      case '*':
      case '+':
      case '?':
        return this.#refuse('nothing to repeat', from);
      case '{':
        this.#at = from;
        if (this.#bounds() !== undefined) this.#refuse('nothing to repeat', from);
        this.#at = from + 1;
    }
    return this.#literal(character.codePointAt(0) ?? 0, flags);
  }

  #literal(codePoint: number, flags: Flags): Expression {
    const set = single(codePoint);
    return { type: 'set', set: flags.ignoreCase ? ignoreCase(set, flags.ascii) : set };
  }

  #group(flags: Flags, from: number): Expression {
    let inner = flags;
    if (this.#accept('?')) {
      if (this.#accept('P<')) this.#groupName(from);
      else if (this.#accept('P=')) this.#refuse('back-references are not supported', from);
      else if (this.#accept('=') || this.#accept('!')) this.#refuse('look-ahead is not supported', from);
      else if (this.#accept('<=') || this.#accept('<!')) this.#refuse('look-behind is not supported', from);
      else if (this.#accept('(')) this.#refuse('conditional groups are not supported', from);
      else if (this.#accept('>')) this.#refuse('atomic groups are not supported', from);
      else if (!this.#accept(':')) inner = this.#scopedFlags(flags, from);
    }
    if (++this.#nesting > MAX_NESTING) this.#refuse(`groups nested deeper than ${MAX_NESTING}`, from);
    const expression = this.#alternatives(inner);
    this.#nesting--;
    if (!this.#accept(')')) this.#refuse('missing ), unterminated group', from);
    // A group is a part of its own: what is in it may be repeated, an assertion too.
    return { type: 'sequence', parts: [expression] };
  }

  #groupName(from: number): void {
    const start = this.#at;
    while (this.#peek() !== '>')
      if (this.#at++ >= this.#characters.length) this.#refuse('missing >, unterminated name', from);
    const name = this.#characters.slice(start, this.#at).join('');
    this.#at++;
    if (!/^[\p{ID_Start}_]\p{ID_Continue}*$/u.test(name)) this.#refuse(`bad group name '${name}'`, from);
    if (this.#groupNames.has(name)) this.#refuse(`group name '${name}' is used twice`, from);
    this.#groupNames.add(name);
  }

  #scopedFlags(flags: Flags, from: number): Flags {
    let changed = flags;
    let on = true;
    let kind: string | undefined;
    for (;;) {
      const letter = this.#characters[this.#at++] ?? '';
      if (letter === 'a' || letter === 'u') {
        if (kind !== undefined && kind !== letter) this.#refuse('flags a and u are incompatible', from);
        kind = letter;
      }
      if (letter === ':') return changed;
      if (letter === ')') this.#refuse('flags for the whole expression are not supported, write (?i:...)', from);
      if (letter === '-' && on) on = false;
      else if (letter === 'u' && on) changed = { ...changed, ascii: false };
      else if (Object.hasOwn(FLAGS, letter) && (on || letter !== 'a')) {
        changed = { ...changed, [FLAGS[letter as keyof typeof FLAGS]]: on };
      } else this.#refuse(`unknown extension ?${letter}`, from);
    }
  }

  #escape(flags: Flags, from: number): Expression {
    const character = this.#peek() ?? this.#refuse('bad escape (end of pattern)', from);
    const words = flags.ascii ? 'ascii' : 'unicode';
    const assertion = (
      {
        A: 'start',
        Z: 'end',
        b: `word_boundary_${words}`,
        B: `no_word_boundary_${words}`,
      } as const satisfies Record<string, Assertion>
    )[character as 'A'];
    if (assertion !== undefined) {
      this.#at++;
      return { type: 'assertion', assertion };
    }
    const set = this.#classEscape(flags);
    if (set !== undefined) return { type: 'set', set };
    if (/^[1-9]$/.test(character)) {
      const octal = this.#characters.slice(this.#at, this.#at + 3).join('');
      if (!/^[0-7]{3}$/.test(octal)) this.#refuse('back-references are not supported', from);
    }
    return this.#literal(this.#escapedCodePoint(from), flags);
  }

  #classEscape(flags: Flags): CodePoints | undefined {
    const letter = this.#peek() ?? '';
    const sets = Object.hasOwn(CLASSES, letter.toLowerCase()) ? CLASSES[letter.toLowerCase()] : undefined;
    if (sets === undefined) return undefined;
    this.#at++;
    const set = flags.ascii ? sets.ascii() : sets.unicode();
    return letter === letter.toLowerCase() ? set : complement(set);
  }

  /** What follows a backslash, where it stands for one character. */
  #escapedCodePoint(from: number): number {
    const octal = /^(?:[0-7]{3}|0[0-7]?)/.exec(this.#characters.slice(this.#at, this.#at + 3).join(''))?.[0];
    if (octal !== undefined) {
      this.#at += octal.length;
      const codePoint = Number.parseInt(octal, 8);
      return codePoint <= 0o377 ? codePoint : this.#refuse('octal escape above \\377', from);
    }
    const character = this.#characters[this.#at++] ?? this.#refuse('bad escape (end of pattern)', from);
    const hexDigits = { x: 2, u: 4, U: 8 }[character];
    if (hexDigits !== undefined) {
      const hex = this.#characters.slice(this.#at, this.#at + hexDigits).join('');
      const codePoint = /^[0-9a-fA-F]+$/.test(hex) && hex.length === hexDigits ? Number.parseInt(hex, 16) : Number.NaN;
      if (!(codePoint <= MAX_CODE_POINT)) this.#refuse(`bad escape \\${character}${hex}`, from);
      this.#at += hexDigits;
      return codePoint;
    }
    if (Object.hasOwn(ESCAPED, character)) return ESCAPED[character] ?? 0;
    if (/^[A-Za-z0-9]$/.test(character)) this.#refuse(`bad escape \\${character}`, from);
    return character.codePointAt(0) ?? 0;
  }

  #characterClass(flags: Flags, from: number): CodePoints {
    const negated = this.#accept('^');
    const sets: CodePoints[] = [];
    let first = true;
    for (; first || this.#peek() !== ']'; first = false) {
      const at = this.#at;
      const low = this.#classMember(flags, from);
      const next = this.#characters[this.#at + 1];
      if (this.#peek() !== '-' || next === ']') {
        sets.push(typeof low === 'number' ? single(low) : low);
        continue;
      }
      this.#at++;
      const high = this.#classMember(flags, from);
      if (typeof low !== 'number' || typeof high !== 'number' || high < low) this.#refuse('bad character range', at);
      sets.push([[low, high]]);
    }
    this.#at++;
    const set = union(...sets);
    const cased = flags.ignoreCase ? ignoreCase(set, flags.ascii) : set;
    return negated ? complement(cased) : cased;
  }

  #classMember(flags: Flags, from: number): number | CodePoints {
    const character = this.#characters[this.#at++] ?? this.#refuse('unterminated character set', from);
    if (character !== '\\') return character.codePointAt(0) ?? 0;
    if (this.#accept('b')) return 8;
    return this.#classEscape(flags) ?? this.#classOctal() ?? this.#escapedCodePoint(this.#at - 1);
  }

  /** In a character set every escape of digits is octal. */
  #classOctal(): number | undefined {
    const octal = /^[0-7]{1,3}/.exec(this.#characters.slice(this.#at, this.#at + 3).join(''))?.[0];
    if (octal === undefined) return undefined;
    const codePoint = Number.parseInt(octal, 8);
    if (codePoint > 0o377) this.#refuse('octal escape above \\377', this.#at - 1);
    this.#at += octal.length;
    return codePoint;
  }
}
