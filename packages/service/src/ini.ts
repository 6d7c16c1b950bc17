/** Where a setting was written: a file with its line (from 1), or the name of an environment variable. */
export type Origin = { readonly file: string; readonly line?: number } | { readonly variable: string };

/** Something wrong with the configuration, in words for the operator. */
export type ConfigProblem = { readonly origin?: Origin; readonly text: string };

/** The text of one option. Continuation lines are joined with `\n`; quotes are still there. */
export type IniValue = { readonly text: string; readonly origin: Origin };

/** Section name (case kept) to option name (lower case) to value. `[DEFAULT]` is a section like any other here. */
export type IniSections = ReadonlyMap<string, ReadonlyMap<string, IniValue>>;

export const DEFAULT_SECTION = 'DEFAULT';

/**
 * Parses the INI dialect of the existing configuration files (that of Python's RawConfigParser): `key = value` or
 * `key: value`, lower-cased option names, comments only on lines of their own after `#` or `;`, indented continuation
 * lines, no interpolation. Never throws: everything wrong is in `problems`, and the good lines are still read.
 */
export function parseIni(
  text: string,
  file: string,
): { readonly sections: IniSections; readonly problems: readonly ConfigProblem[] } {
  const sections = new Map<string, Map<string, IniValue>>();
  const problems: ConfigProblem[] = [];
  let section: Map<string, IniValue> | undefined;
  let open:
    | { readonly name: string; readonly line: number; readonly indent: number; readonly parts: string[] }
    | undefined;

  const close = () => {
    if (open === undefined || section === undefined) return;
    section.set(open.name, { text: open.parts.join('\n').trimEnd(), origin: { file, line: open.line } });
    open = undefined;
  };

  for (const [index, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    const line = index + 1;
    const problem = (what: string) => problems.push({ origin: { file, line }, text: what });
    const content = raw.trim();
    if (content === '') {
      open?.parts.push('');
      continue;
    }
    if (content.startsWith('#') || content.startsWith(';')) continue;
    const indent = raw.length - raw.trimStart().length;
    if (open !== undefined && indent > open.indent) {
      open.parts.push(content);
      continue;
    }
    close();
    const header = /^\[(.+)\]/.exec(content)?.[1];
    if (header !== undefined) {
      if (sections.has(header) && header !== DEFAULT_SECTION) problem(`the section [${header}] is there twice`);
      section = sections.get(header) ?? new Map();
      sections.set(header, section);
      continue;
    }
    const [, name = '', value = ''] = /^(.*?)\s*[=:]\s*(.*)$/.exec(content) ?? [];
    const option = name.toLowerCase();
    if (section === undefined) problem('a section like [verifier] must come first');
    else if (option === '') problem('expected "name = value", a [section] or a comment line');
    else if (section.has(option)) problem(`the option "${option}" is there twice`);
    else open = { name: option, line, indent, parts: [value] };
  }
  close();
  return { sections, problems };
}
