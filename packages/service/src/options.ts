import { didYouMean } from './nearest.ts';
import { type Literal, parsePythonLiteral } from './python-literal.ts';

export type Reading<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string };

/** What reading a value may depend on besides its text. */
export type OptionContext = { readonly workDir: string };

/** One declared option. Its name is its key in an option table, spelt as in the file, so that a search finds both. */
export type Option<T> = {
  /** What the document says about the values it takes. */
  readonly kind: string;
  /** Text that counts when nobody sets the option, as it would stand in a file. */
  readonly fallback: string;
  readonly doc: string;
  /** Its value is never shown. */
  readonly secret: boolean;
  /** A TOML array is welcome. */
  readonly list: boolean;
  /** An empty value counts as `fallback` (and is reported). */
  readonly emptyIsDefault: boolean;
  readonly read: (text: string, context: OptionContext) => Reading<T>;
};

export type OptionTable = { readonly [name: string]: Option<unknown> };

/** The type of the settings that an option table declares. */
export type Settings<Table extends OptionTable> = {
  readonly [Name in keyof Table]: Table[Name] extends Option<infer T> ? T : never;
};

type Extras = { readonly secret?: boolean; readonly emptyIsDefault?: boolean };

export const good = <T>(value: T): Reading<T> => ({ ok: true, value });
export const bad = (problem: string): { readonly ok: false; readonly problem: string } => ({ ok: false, problem });

/** An option with its own reading; the other helpers are made of it. */
export const custom = <T>(
  kind: string,
  fallback: string,
  doc: string,
  read: Option<T>['read'],
  { secret = false, emptyIsDefault = false, list = false }: Extras & { readonly list?: boolean } = {},
): Option<T> => ({ kind, fallback, doc, secret, list, emptyIsDefault, read });

/** Text; quotes (`"`) and white space around it are stripped, as the existing services do. */
export const text = (fallback: string, doc: string, extras: Extras = {}): Option<string> =>
  custom('text', fallback, doc, (raw) => good(strip(raw)), extras);

/** Text that never appears in logs, errors or documents. */
export const secret = (doc: string, fallback = ''): Option<string> => text(fallback, doc, { secret: true });

/** A whole number within `min` and `max` (both allowed). */
export const integer = (fallback: number, min: number, max: number, doc: string): Option<number> =>
  custom(`integer, ${min} to ${max}`, String(fallback), doc, (raw) =>
    /^[+-]?\d+$/.test(strip(raw)) ? inRange(Number(strip(raw)), min, max) : bad('expected an integer'),
  );

/** A number within `min` and `max` (both allowed). */
export const decimal = (fallback: number, min: number, max: number, doc: string): Option<number> =>
  custom(`number, ${min} to ${max}`, String(fallback), doc, (raw) =>
    /^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$/.test(strip(raw))
      ? inRange(Number(strip(raw)), min, max)
      : bad('expected a number'),
  );

export const port = (fallback: number, doc: string): Option<number> => integer(fallback, 1, 65_535, doc);

const TRUE_WORDS = ['1', 'yes', 'true', 'on'];
const FALSE_WORDS = ['0', 'no', 'false', 'off'];

/** `1 yes true on` or `0 no false off` in any case; other text is a problem, in files and in the environment alike. */
export const boolean = (fallback: boolean, doc: string): Option<boolean> =>
  custom('boolean', fallback ? 'True' : 'False', doc, (raw) => readBoolean(raw));

export function readBoolean(raw: string): Reading<boolean> {
  const word = strip(raw).toLowerCase();
  if (TRUE_WORDS.includes(word)) return good(true);
  if (FALSE_WORDS.includes(word)) return good(false);
  return bad('expected True or False (or yes/no, on/off, 1/0)');
}

/** One of `choices`, spelt exactly. */
export const choice = <const T extends string>(
  choices: readonly T[],
  fallback: NoInfer<T>,
  doc: string,
  extras: Extras = {},
): Option<T> =>
  custom(
    choices.map((word) => `\`${word}\``).join(', '),
    fallback,
    doc,
    (raw) => {
      const word = strip(raw);
      const found = choices.find((known) => known === word);
      return found === undefined
        ? bad(`expected one of ${choices.join(', ')}${didYouMean(word, choices)}`)
        : good(found);
    },
    extras,
  );

/** A list of texts: a Python or TOML list, or items separated by commas or blanks. `choices` limits the items. */
export const list = <const T extends string = string>(
  fallback: string,
  doc: string,
  choices?: readonly T[],
): Option<readonly T[]> =>
  custom(
    choices === undefined ? 'list' : `list of ${choices.map((word) => `\`${word}\``).join(', ')}`,
    fallback,
    doc,
    (raw) => {
      const items = readItems(raw);
      if (!items.ok || choices === undefined) return items as Reading<readonly T[]>;
      const unknown = items.value.find((item) => !choices.some((known) => known === item));
      return unknown === undefined
        ? (items as Reading<readonly T[]>)
        : bad(`"${unknown}" is not one of ${choices.join(', ')}${didYouMean(unknown, choices)}`);
    },
    { list: true },
  );

/** A Python literal whose shape `check` decides. */
export const literal = <T>(
  kind: string,
  fallback: string,
  doc: string,
  check: (value: Literal) => Reading<T>,
): Option<T> =>
  custom(kind, fallback, doc, (raw) => {
    const value = parsePythonLiteral(strip(raw));
    return value.ok ? check(value.value) : value;
  });

/** `text` without quotes (`"`) and white space at its ends. */
export const strip = (raw: string): string => raw.replace(/^["\s]+/, '').replace(/["\s]+$/, '');

/** Items of a list in any of the forms the existing files use; quotes around an item are stripped. */
export function readItems(raw: string): Reading<readonly string[]> {
  const stripped = strip(raw);
  if (/^[[(]/.test(stripped)) {
    const bare = /^\[([^'"[\]]*)\]$/.exec(stripped)?.[1];
    if (bare !== undefined) return good(splitItems(bare));
    const value = parsePythonLiteral(stripped);
    if (!value.ok) return bad(`expected a list like ['a', 'b']: ${value.problem}`);
    if (!Array.isArray(value.value)) return bad("expected a list like ['a', 'b']");
    const items: unknown[] = value.value;
    const texts = items.filter((item) => typeof item === 'string').map((item) => item.trim());
    return texts.length === items.length ? good(texts) : bad('every item of the list must be a text');
  }
  const items = splitItems(raw).map((item) => /^(['"])(.*)\1$/.exec(item)?.[2] ?? item);
  return items.some((item) => /['"]/.test(item)) ? bad('a quote without its other half') : good(items);
}

const splitItems = (joined: string): readonly string[] => joined.split(/[,\s]+/).filter((item) => item !== '');

const inRange = (value: number, min: number, max: number): Reading<number> =>
  value >= min && value <= max ? good(value) : bad(`expected a value from ${min} to ${max}`);
