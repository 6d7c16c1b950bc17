import { type Arguments, OPTIONS, type Option, type OptionName } from './options.ts';

/** The command line cannot be understood; the message is for the person who typed it. */
export class UsageError extends Error {
  readonly code = 'usage';
  constructor(message: string) {
    super(message);
    this.name = 'UsageError';
  }
}

type Spelling = { readonly name: OptionName; readonly flag: string; readonly option: Option };
type Match = Spelling & { readonly attached: string | undefined };

const SPELLINGS: readonly Spelling[] = Object.entries(OPTIONS).flatMap(([name, option]) =>
  option.flags.map((flag) => ({ name: name as OptionName, flag, option })),
);

/**
 * The spelling that `argument` means. [compat] The rules are those of Python's argparse, which existing scripts were
 * written against: the exact spelling; `--option=text`; an unambiguous beginning of a long option; `-utext`.
 */
function match(argument: string): Match | undefined {
  const exact = SPELLINGS.find(({ flag }) => flag === argument);
  if (exact) return { ...exact, attached: undefined };
  const equals = argument.indexOf('=');
  const word = equals < 0 ? argument : argument.slice(0, equals);
  const attached = equals < 0 ? undefined : argument.slice(equals + 1);
  const whole = SPELLINGS.find(({ flag }) => flag === word);
  if (whole && equals >= 0) return { ...whole, attached };

  const beginnings = SPELLINGS.filter(({ flag, option }) => !option.exactOnly && flag.startsWith(word)).map((one) => ({
    ...one,
    attached,
  }));
  const joined = argument.startsWith('--')
    ? []
    : SPELLINGS.filter(({ flag }) => flag.length === 2 && flag === argument.slice(0, 2)).map((one) => ({
        ...one,
        attached: argument.slice(2),
      }));
  const candidates = [...joined, ...beginnings];
  if (candidates.length > 1) {
    throw new UsageError(`ambiguous option: ${argument} could match ${candidates.map(({ flag }) => flag).join(', ')}`);
  }
  return candidates[0];
}

/** Whether `argument` stands for itself and is no option: text, `-`, the empty text, negative numbers, text with blanks. */
const isText = (argument: string): boolean =>
  !argument.startsWith('-') || argument === '-' || /^-\d+$|^-\d*\.\d+$/.test(argument) || argument.includes(' ');

/**
 * Reads the arguments after the program's name. `--help` and `--version` end the reading: what follows is not looked at.
 * @throws UsageError naming the option, in the words of argparse.
 */
export function parseArguments(argv: readonly string[]): Arguments {
  const given = new Map<OptionName, string[]>();
  const unknown: string[] = [];
  const add = (name: OptionName, text: string) => given.set(name, [...(given.get(name) ?? []), text]);

  for (let at = 0; at < argv.length; at++) {
    const argument = argv[at] ?? '';
    if (argument === '--') {
      unknown.push(...argv.slice(at + 1));
      break;
    }
    const found = argument.startsWith('-') && argument !== '-' ? match(argument) : undefined;
    if (found === undefined) {
      unknown.push(argument);
      continue;
    }
    const label = `argument ${found.option.flags.join('/')}`;
    if (found.option.kind === 'flag') {
      if (found.attached !== undefined) throw new UsageError(`${label}: ignored explicit argument '${found.attached}'`);
      add(found.name, '');
      if (found.name === 'help' || found.name === 'version') break;
      continue;
    }
    const next = argv[at + 1];
    if (found.attached !== undefined) {
      add(found.name, found.attached);
    } else if (next !== undefined && isText(next)) {
      add(found.name, next);
      at++;
    } else {
      throw new UsageError(`${label}: expected one argument`);
    }
  }
  const asked = given.has('help') || given.has('version');
  if (unknown.length > 0 && !asked) throw new UsageError(`unrecognized arguments: ${unknown.join(' ')}`);

  return Object.fromEntries(
    Object.entries(OPTIONS).map(([name, option]) => {
      const texts = given.get(name as OptionName);
      if (option.kind === 'flag') return [name, texts !== undefined];
      return [name, option.kind === 'list' ? (texts ?? []) : texts?.at(-1)];
    }),
  ) as Arguments;
}
