/** What Python's literals can say; tuples read as lists, `None` as `null`. */
export type Literal = string | number | boolean | null | readonly Literal[] | { readonly [key: string]: Literal };

export type LiteralReading =
  | { readonly ok: true; readonly value: Literal }
  | { readonly ok: false; readonly problem: string };

const MAX_DEPTH = 32;
const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\',
  "'": "'",
  '"': '"',
  '\n': '',
  a: '\x07',
  b: '\b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
};
const WORDS: ReadonlyMap<string, Literal> = new Map<string, Literal>([
  ['True', true],
  ['False', false],
  ['None', null],
]);

class LiteralError extends Error {}

/**
 * Parses one Python literal (list, tuple, dict with text keys, text, number, `True`, `False`, `None`) as the existing
 * configuration files use it. JSON lists and objects of the same kind read alike. Not read: bytes, sets, complex
 * numbers, triple quotes, integers beyond 2^53.
 */
export function parsePythonLiteral(text: string): LiteralReading {
  let at = 0;

  const fail = (what: string): never => {
    throw new LiteralError(`${what} at character ${at + 1}`);
  };
  const match = (pattern: RegExp): RegExpExecArray | undefined => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found === null) return undefined;
    at = pattern.lastIndex;
    return found;
  };
  const skip = () => match(/\s*/y);
  const take = (character: string): boolean => {
    skip();
    if (text[at] !== character) return false;
    at++;
    return true;
  };

  const string = (): string => {
    const prefix = match(/[rRuU]?/y)?.[0].toLowerCase();
    const quote = text[at];
    if (text.startsWith("'''", at) || text.startsWith('"""', at)) fail('triple quotes are not read here,');
    at++;
    let value = '';
    for (;;) {
      const character = text[at];
      if (character === undefined || character === '\n') return fail('a text without its closing quote');
      at++;
      if (character === quote) return value;
      if (character !== '\\') value += character;
      else if (prefix === 'r') value += character + (text[at++] ?? fail('a text without its closing quote'));
      else value += escaped();
    }
  };
  const escaped = (): string => {
    const octal = match(/[0-7]{1,3}/y);
    if (octal) return String.fromCodePoint(Number.parseInt(octal[0], 8));
    const hex = match(/x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})/y);
    if (hex) {
      const point = Number.parseInt(hex[1] ?? hex[2] ?? hex[3] ?? '', 16);
      return point <= 0x10ffff ? String.fromCodePoint(point) : fail('no such character');
    }
    const letter = text[at] ?? fail('a text without its closing quote');
    if ('xuUN'.includes(letter)) fail('a broken \\ escape');
    at++;
    return ESCAPES[letter] ?? `\\${letter}`;
  };

  const number = (): number | undefined => {
    const found = match(
      /[+-]?\s*(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)/y,
    );
    if (found === undefined) return undefined;
    const digits = (found[1] ?? '').replaceAll('_', '');
    const value = Number(digits) * (found[0].startsWith('-') ? -1 : 1);
    if (/^0\d/.test(digits)) fail('a number with a leading zero');
    if (!Number.isFinite(value) || (/^\d+$/.test(digits) && !Number.isSafeInteger(value))) fail('a number too large');
    return value;
  };

  const list = (end: string, depth: number): readonly Literal[] => {
    const items: Literal[] = [];
    while (!take(end)) {
      if (items.length > 0 && !separator(end)) return items;
      items.push(value(depth));
    }
    return items;
  };
  // True if another element follows; false if the closing bracket came (after an optional trailing comma).
  const separator = (end: string): boolean => {
    if (!take(',')) fail(`expected "," or "${end}"`);
    return !take(end);
  };

  const dict = (depth: number): Literal => {
    const entries: [string, Literal][] = [];
    while (!take('}')) {
      if (entries.length > 0 && !separator('}')) break;
      const key = value(depth);
      if (typeof key !== 'string') return fail('the keys of a dict must be texts,');
      if (!take(':')) fail('expected ":"');
      entries.push([key, value(depth)]);
    }
    return Object.fromEntries(entries);
  };

  const value = (depth: number): Literal => {
    if (depth > MAX_DEPTH) fail('too many brackets inside each other');
    skip();
    if (take('[')) return list(']', depth + 1);
    if (take('{')) return dict(depth + 1);
    if (take('(')) {
      const items = list(')', depth + 1);
      const tuple = items.length !== 1 || /,\s*\)$/.test(text.slice(0, at));
      return tuple ? items : (items[0] ?? null);
    }
    if (/[rRuU]?['"]/y.test(text.slice(at, at + 2))) {
      let joined = string();
      while (skip() && /[rRuU]?['"]/y.test(text.slice(at, at + 2))) joined += string();
      return joined;
    }
    const digits = number();
    if (digits !== undefined) return digits;
    const word = match(/\w+/y)?.[0] ?? '';
    const known = WORDS.get(word);
    return known !== undefined ? known : fail(`"${word || (text[at] ?? 'the end')}" is not a literal,`);
  };

  try {
    const result = value(0);
    skip();
    if (at < text.length) fail('something more');
    return { ok: true, value: result };
  } catch (error) {
    if (error instanceof LiteralError) return { ok: false, problem: error.message };
    throw error;
  }
}
