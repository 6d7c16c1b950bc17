import { readdirSync, readFileSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
import type * as SmolToml from 'smol-toml';
import { type ConfigProblem, DEFAULT_SECTION, type Origin, parseIni } from './ini.ts';

/** Where configuration comes from. Programs pass `process.env`; tests pass folders of their own as roots. */
export type ConfigSource = {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly roots?: { readonly etc: string; readonly usrEtc: string };
  /** Started as root; taken from the process if absent. */
  readonly isRoot?: boolean;
};

/** Something to log once the log is open. */
export type Note = { readonly level: 'info' | 'warning'; readonly text: string };

/** Collects, while configuration is read, what to log and everything that is wrong. */
export type Report = { readonly notes: Note[]; readonly problems: ConfigProblem[] };

/** A value somebody wrote, as text. `array`: it was a TOML array, now in the form of a Python list. */
export type Written = { readonly text: string; readonly array: boolean; readonly origin: Origin };

/** Section name to option name to the value that won. */
export type WrittenSections = Map<string, Map<string, Written>>;

const DEFAULT_ROOTS = { etc: '/etc/keylime', usrEtc: '/usr/etc/keylime' };

/**
 * Reads the INI files of a component by the existing rules: the file named by `KEYLIME_<COMPONENT>_CONFIG` alone, or
 * else the first base file of /etc/keylime and /usr/etc/keylime, then the snippets of /usr/etc and of /etc on top.
 * Other than there, a file that is named but missing, or that cannot be read, is a problem. `need` says whether it is
 * worth a warning that there is no file at all.
 */
export function readIniFiles(
  component: string,
  source: ConfigSource,
  report: Report,
  need: 'expected' | 'optional',
): WrittenSections {
  const written: WrittenSections = new Map();
  const apply = (file: string, text: string) => {
    const { sections, problems } = parseIni(text, file);
    report.problems.push(...problems);
    for (const [section, options] of sections) {
      for (const [option, value] of options) put(written, section, option, { ...value, array: false });
    }
  };
  const named = namedFile(component, source);
  if (named !== undefined) {
    applyNamed(named, apply, report);
    return written;
  }
  const { etc, usrEtc } = source.roots ?? DEFAULT_ROOTS;
  const bases = [etc, usrEtc].map((root) => path.join(root, `${component}.conf`));
  for (const base of bases) {
    const text = readText(base, report);
    if (text === undefined) continue;
    apply(base, text);
    report.notes.push({ level: 'info', text: `Reading configuration from ['${base}']` });
    applySnippets(path.join(usrEtc, `${component}.conf.d`), apply, report);
    applySnippets(path.join(etc, `${component}.conf.d`), apply, report);
    return written;
  }
  if (need === 'expected') {
    const where = bases.join(' or ');
    report.notes.push({ level: 'warning', text: `No configuration found in ${where}: the built-in defaults are used` });
  }
  return written;
}

/**
 * Reads the TOML files of the agent: the file named by `KEYLIME_AGENT_CONFIG` alone, or else, later ones winning,
 * /usr/etc/keylime/agent.conf, its agent.conf.d, /etc/keylime/agent.conf, its agent.conf.d.
 */
export function readAgentFiles(source: ConfigSource, report: Report): Map<string, Written> {
  const written = new Map<string, Written>();
  const apply = (file: string, text: string) => applyToml(file, text, written, report);
  const named = namedFile('agent', source);
  if (named !== undefined) {
    applyNamed(named, apply, report);
    return written;
  }
  const { etc, usrEtc } = source.roots ?? DEFAULT_ROOTS;
  const bases = [usrEtc, etc].map((root) => path.join(root, 'agent.conf'));
  let found = false;
  for (const base of bases) {
    const text = readText(base, report);
    if (text !== undefined) {
      apply(base, text);
      found = true;
      report.notes.push({ level: 'info', text: `Reading configuration from ['${base}']` });
    }
    found = applySnippets(`${base}.d`, apply, report) || found;
  }
  if (!found) {
    const where = bases.join(' or ');
    report.notes.push({ level: 'warning', text: `No configuration found in ${where}: the built-in defaults are used` });
  }
  return written;
}

/** The value of an option; `[DEFAULT]` stands in for every section. */
export const findWritten = (written: WrittenSections, section: string, option: string): Written | undefined =>
  written.get(section)?.get(option) ?? written.get(DEFAULT_SECTION)?.get(option);

function put(written: WrittenSections, section: string, option: string, value: Written): void {
  const options = written.get(section) ?? new Map<string, Written>();
  written.set(section, options.set(option, value));
}

const namedFile = (component: string, { env }: ConfigSource): { variable: string; file: string } | undefined => {
  const variable = `KEYLIME_${component.toUpperCase()}_CONFIG`;
  const file = env[variable];
  return file === undefined || file === '' ? undefined : { variable, file };
};

type Apply = (file: string, text: string) => void;

function applyNamed({ variable, file }: { variable: string; file: string }, apply: Apply, report: Report): void {
  const before = report.problems.length;
  const text = readText(file, report);
  if (text !== undefined) {
    apply(file, text);
    report.notes.push({ level: 'info', text: `Reading configuration from ['${file}']` });
  } else if (report.problems.length === before) {
    report.problems.push({ origin: { variable }, text: `there is no file ${file}; correct or unset the variable` });
  }
}

/** True if the folder had a file. */
function applySnippets(folder: string, apply: Apply, report: Report): boolean {
  let names: string[];
  try {
    names = readdirSync(folder).sort();
  } catch (error) {
    if (!isAbsent(error)) report.problems.push({ origin: { file: folder }, text: `cannot be read (${codeOf(error)})` });
    return false;
  }
  let found = false;
  for (const name of names) {
    const file = path.join(folder, name);
    if (isFolder(file)) continue;
    const text = readText(file, report);
    if (text === undefined) continue;
    apply(file, text);
    found = true;
  }
  if (found) report.notes.push({ level: 'info', text: `Applied configuration snippets from ${folder}` });
  return found;
}

const isFolder = (file: string): boolean => statSync(file, { throwIfNoEntry: false })?.isDirectory() === true;

/** Text of a file; `undefined` if it is not there, or (with a problem reported) cannot be read. */
function readText(file: string, report: Report): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    if (isAbsent(error)) return undefined;
    const why =
      error instanceof TypeError ? 'it is not UTF-8 text' : `${codeOf(error) ?? error}; check its permissions`;
    report.problems.push({ origin: { file }, text: `cannot be read: ${why}` });
    return undefined;
  }
}

const isAbsent = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes(codeOf(error) ?? '');

const tomlReader = (): typeof SmolToml => createRequire(import.meta.url)('smol-toml');

function applyToml(file: string, text: string, written: Map<string, Written>, report: Report): void {
  const { parse, TomlError } = tomlReader(); // late: only agents may have settings in TOML
  let document: Record<string, unknown>;
  try {
    document = parse(text.replace(/^\uFEFF/, ''));
  } catch (error) {
    if (!(error instanceof TomlError)) throw error;
    const reason = error.message.split('\n')[0] ?? '';
    report.problems.push({ origin: { file, line: error.line }, text: `not a TOML file: ${reason}` });
    return;
  }
  const { agent = {}, ...rest } = document;
  for (const name of Object.keys(rest)) {
    report.notes.push({
      level: 'warning',
      text: `${file}:${lineOf(text, name)}: "${name}" stands outside of the table [agent] and is ignored`,
    });
  }
  if (!isTable(agent)) {
    report.problems.push({ origin: { file, line: lineOf(text, 'agent') }, text: '"agent" must be a table: [agent]' });
    return;
  }
  for (const [name, value] of Object.entries(agent)) {
    const origin = { file, line: lineOf(text, name) };
    const plain = plainText(value);
    if (plain === undefined) report.problems.push({ origin, text: `${name}: a table or a date does not belong here` });
    else written.set(name, { text: plain, array: Array.isArray(value), origin });
  }
}

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);

function plainText(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean' || typeof value === 'bigint') return String(value);
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return JSON.stringify(value);
  return undefined;
}

/** Line of the last place where `name` is set or opened as a table, or 1. The parser keeps no positions. */
function lineOf(text: string, name: string): number {
  const lines = text.split('\n');
  const index = lines.findLastIndex((line) => /^\s*\[?\s*["']?([\w-]+)/.exec(line)?.[1] === name);
  return index < 0 ? 1 : index + 1;
}
