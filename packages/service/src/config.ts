import path from 'node:path';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import {
  type ConfigSource,
  findWritten,
  type Note,
  type Report,
  readAgentFiles,
  readIniFiles,
  type Written,
  type WrittenSections,
} from './config-files.ts';
import { agentProblems, type Problems, registrarProblems, tenantProblems, verifierProblems } from './config-rules.ts';
import { type ConfigProblem, DEFAULT_SECTION, type Origin } from './ini.ts';
import { didYouMean } from './nearest.ts';
import { agentOptions } from './options/agent.ts';
import { caOptions } from './options/ca.ts';
import { GONE } from './options/gone.ts';
import { LEVELS, type Level, loggerOptions, parseLevel } from './options/logging.ts';
import { registrarOptions } from './options/registrar.ts';
import { tenantOptions } from './options/tenant.ts';
import { revocationOptions, verifierOptions } from './options/verifier.ts';
import { bad, type Option, type OptionTable, readBoolean, type Settings } from './options.ts';

export type { ConfigSource, Note } from './config-files.ts';

/** What every program has besides its own options. */
export type CommonConfig = {
  /** Absolute path. */
  readonly workDir: string;
  /** `KEYLIME_TEST` is on: EKs of emulators are accepted. */
  readonly testMode: boolean;
  readonly log: LogConfig;
};
export type LogConfig = { readonly level: Level; readonly format: 'text' | 'json' };

/** Options of the main section by their names in the file; other sections under their own name. */
export type VerifierConfig = Settings<typeof verifierOptions> & {
  readonly revocations: Settings<typeof revocationOptions>;
} & CommonConfig;
export type RegistrarConfig = Settings<typeof registrarOptions> & {
  /** From tenant.conf, as the existing registrar does. */
  readonly tpm_cert_store: string;
} & CommonConfig;
export type TenantConfig = Settings<typeof tenantOptions> & CommonConfig;
export type CaConfig = Settings<typeof caOptions> & CommonConfig;
/** `workDir` is `keylime_dir`; every path option is absolute. */
export type AgentConfig = Settings<typeof agentOptions> & CommonConfig;

/** `notes` are for the log, as soon as it is open: files read, variables used, options unknown. */
export type Loaded<T> = { readonly config: T; readonly notes: readonly Note[] };

/**
 * The configuration cannot be used. The message lists every problem, and the warnings too: a slip often explains a
 * problem. Programs print it and exit with 1.
 */
export class ConfigError extends Error {
  readonly code = 'config_invalid';
  readonly problems: NonEmpty<ConfigProblem>;
  readonly notes: readonly Note[];
  constructor(problems: NonEmpty<ConfigProblem>, notes: readonly Note[]) {
    const count = problems.length === 1 ? 'a problem' : `${problems.length} problems`;
    const warnings = notes.filter(({ level }) => level === 'warning').map(({ text }) => `warning: ${text}`);
    const lines = [...problems.map(describeProblem), ...warnings].map((line) => `  ${line}`);
    super([`${count} in the configuration:`, ...lines].join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
    this.notes = notes;
  }
}

/** verifier.conf and logging.conf. Throws `ConfigError` with everything that is wrong. */
export function loadVerifierConfig(source: ConfigSource): Loaded<VerifierConfig> {
  return load(source, (report, common) => {
    const tables = { verifier: verifierOptions, revocations: revocationOptions };
    const { settings, origin } = readComponent('verifier', tables, source, common.workDir, report);
    collect(report, origin, verifierProblems(settings.verifier, settings.revocations));
    return {
      ...settings.verifier,
      quote_interval: quoteInterval(settings.verifier, origin('verifier', 'quote_interval') !== undefined),
      revocations: settings.revocations,
      ...common,
    };
  });
}

/** Agents that push come at their own expense, and each time with a new connection: two seconds are for polling. */
const PUSH_INTERVAL_SECONDS = 60;

const quoteInterval = ({ mode, quote_interval }: Settings<typeof verifierOptions>, isWritten: boolean): number =>
  mode === 'push' && !isWritten ? PUSH_INTERVAL_SECONDS : quote_interval;

/** registrar.conf, logging.conf, and `tpm_cert_store` of tenant.conf. Throws `ConfigError`. */
export function loadRegistrarConfig(source: ConfigSource): Loaded<RegistrarConfig> {
  return load(source, (report, common) => {
    const tables = { registrar: registrarOptions };
    const { settings, origin } = readComponent('registrar', tables, source, common.workDir, report);
    collect(report, origin, registrarProblems(settings.registrar));
    const store = { tenant: { tpm_cert_store: tenantOptions.tpm_cert_store } };
    const { tenant } = readComponent('tenant', store, source, common.workDir, report, 'some').settings;
    return { ...settings.registrar, ...tenant, ...common };
  });
}

/** tenant.conf and logging.conf. Throws `ConfigError`. */
export function loadTenantConfig(source: ConfigSource): Loaded<TenantConfig> {
  return load(source, (report, common) => {
    const { settings, origin } = readComponent('tenant', { tenant: tenantOptions }, source, common.workDir, report);
    collect(report, origin, tenantProblems(settings.tenant));
    return { ...settings.tenant, ...common };
  });
}

/** ca.conf and logging.conf. Throws `ConfigError`. */
export function loadCaConfig(source: ConfigSource): Loaded<CaConfig> {
  return load(source, (report, common) => ({
    ...readComponent('ca', { ca: caOptions }, source, common.workDir, report).settings.ca,
    ...common,
  }));
}

/** agent.conf (TOML). Throws `ConfigError`. */
export function loadAgentConfig(source: ConfigSource): Loaded<AgentConfig> {
  const report: Report = { notes: [], problems: [] };
  const written: WrittenSections = new Map([['agent', readAgentFiles(source, report)]]);
  reportUnknown({ agent: agentOptions }, written, report);
  applyEnvironment('agent', { agent: agentOptions }, source, written, report, 'all');
  const directory =
    source.env.KEYLIME_DIR || written.get('agent')?.get('keylime_dir')?.text || agentOptions.keylime_dir.fallback;
  const common = {
    workDir: path.resolve(directory),
    testMode: testMode(source, report),
    log: logFromEnvironment(source, report, 'info'),
  };
  const { settings, origin } = settle({ agent: agentOptions }, written, common.workDir, report);
  const isRoot = source.isRoot ?? process.getuid?.() === 0;
  const run_as = isRoot || origin('agent', 'run_as') !== undefined ? settings.agent.run_as : '';
  const agent = { ...settings.agent, keylime_dir: common.workDir, run_as };
  collect(report, origin, agentProblems(agent));
  return finish({ ...agent, ...common }, report);
}

function load<T>(source: ConfigSource, build: (report: Report, common: CommonConfig) => T): Loaded<T> {
  const report: Report = { notes: [], problems: [] };
  const test = testMode(source, report);
  const workDir = path.resolve(source.env.KEYLIME_DIR || (test ? '.' : '/var/lib/keylime'));
  const config = build(report, { workDir, testMode: test, log: readLogConfig(source, report) });
  return finish(config, report);
}

function finish<T>(config: T, { notes, problems }: Report): Loaded<T> {
  if (isNonEmpty(problems)) throw new ConfigError(problems, notes);
  return { config, notes };
}

type Tables = { readonly [section: string]: OptionTable };
type Settled<T extends Tables> = {
  readonly settings: { readonly [Section in keyof T]: Settings<T[Section]> };
  readonly origin: (section: string, option: string) => Origin | undefined;
};

/** `scope` `some`: the tables hold only some of the component's options, so nothing is unknown. */
function readComponent<T extends Tables>(
  component: string,
  tables: T,
  source: ConfigSource,
  workDir: string,
  report: Report,
  scope: 'all' | 'some' = 'all',
): Settled<T> {
  const written = readIniFiles(component, source, report, scope === 'all' ? 'expected' : 'optional');
  if (scope === 'all') reportUnknown(tables, written, report);
  applyEnvironment(component, tables, source, written, report, scope);
  return settle(tables, written, workDir, report);
}

function settle<T extends Tables>(tables: T, written: WrittenSections, workDir: string, report: Report): Settled<T> {
  const settings: Record<string, Record<string, unknown>> = {};
  for (const [section, table] of Object.entries(tables)) {
    const values: Record<string, unknown> = {};
    for (const [name, option] of Object.entries(table)) {
      values[name] = readOption(name, option, findWritten(written, section, name), workDir, report);
    }
    settings[section] = Object.freeze(values);
  }
  return {
    settings: settings as Settled<T>['settings'], // every table was walked, and every option read by its own declaration
    origin: (section, option) => findWritten(written, section, option)?.origin,
  };
}

/** A bad value is reported and counts as its default from there on, so that the rules still find what else is wrong. */
function readOption<T>(
  name: string,
  option: Option<T>,
  written: Written | undefined,
  workDir: string,
  report: Report,
): T {
  const byDefault = option.read(option.fallback, { workDir });
  if (!byDefault.ok) throw new Error(`the default of ${name} is wrong: ${byDefault.problem}`);
  if (written === undefined) return byDefault.value;
  if (option.emptyIsDefault && written.text.trim() === '') {
    const where = describeOrigin(written.origin);
    report.notes.push({ level: 'warning', text: `${where}: ${name} is empty: its default ${option.fallback} is used` });
    return byDefault.value;
  }
  const single = written.array && !option.list;
  const reading = single ? bad('expected a single value, not a list') : option.read(written.text, { workDir });
  if (reading.ok) return reading.value;
  const text = describeBadValue(name, option, written.text, reading.problem);
  report.problems.push({ origin: written.origin, text });
  return byDefault.value;
}

function describeBadValue(name: string, option: Option<unknown>, text: string, problem: string): string {
  const shown = option.secret ? '' : ` = ${JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text)}`;
  const hint = /\s[#;]/.test(text) ? ' (a comment must stand on a line of its own)' : '';
  return `${name}${shown}: ${option.secret && problem.includes(text) ? 'not a valid value' : problem}${hint}`;
}

/** Environment variables win over files; one that names no option is reported. */
function applyEnvironment(
  component: string,
  tables: Tables,
  { env }: ConfigSource,
  written: WrittenSections,
  report: Report,
  scope: 'all' | 'some',
): void {
  const prefix = `KEYLIME_${component.toUpperCase()}_`;
  const variables = new Map<string, readonly [section: string, option: string]>();
  for (const [section, table] of Object.entries(tables)) {
    for (const option of Object.keys(table)) {
      const middle = section === component ? '' : `${section.toUpperCase()}_`;
      variables.set(`${prefix}${middle}${option.toUpperCase()}`, [section, option]);
    }
  }
  for (const [variable, text] of Object.entries(env)) {
    if (text === undefined || !variable.startsWith(prefix) || variable === `${prefix}CONFIG`) continue;
    const target = variables.get(variable);
    if (target !== undefined) {
      const [section, option] = target;
      const options = written.get(section) ?? new Map<string, Written>();
      written.set(section, options.set(option, { text, array: false, origin: { variable } }));
      report.notes.push({ level: 'info', text: `Option ${option} is taken from the environment variable ${variable}` });
    } else if (scope === 'all') {
      const gone = GONE[component]?.[variable.slice(prefix.length).toLowerCase()];
      const why = gone === undefined ? `is unknown${didYouMean(variable, variables.keys())}` : `has no effect: ${gone}`;
      report.notes.push({ level: 'warning', text: `The environment variable ${variable} ${why}` });
    }
  }
}

/** Options that no table has: files of other versions stay usable, but a slip is pointed out. */
function reportUnknown(tables: Tables, written: WrittenSections, report: Report): void {
  const everyOption = Object.values(tables).flatMap((table) => Object.keys(table));
  const warn = (origin: Origin | undefined, text: string) => {
    report.notes.push({ level: 'warning', text: origin === undefined ? text : `${describeOrigin(origin)}: ${text}` });
  };
  for (const [section, options] of written) {
    const table = section === DEFAULT_SECTION ? undefined : tables[section];
    if (table === undefined && section !== DEFAULT_SECTION) {
      const origin = options.values().next().value?.origin;
      warn(origin, `the section [${section}] is unknown${didYouMean(section, Object.keys(tables))} and ignored`);
      continue;
    }
    const known = table === undefined ? everyOption : Object.keys(table);
    for (const [option, { origin }] of options) {
      if (known.includes(option)) continue;
      const gone = GONE[section]?.[option];
      if (gone !== undefined) warn(origin, `the option ${option} has no effect: ${gone}`);
      else warn(origin, `the option ${option} is unknown${didYouMean(option, known)} and ignored`);
    }
  }
}

function testMode({ env }: ConfigSource, report: Report): boolean {
  const text = env.KEYLIME_TEST;
  if (text === undefined || text === '') return false;
  const reading = readBoolean(text);
  if (!reading.ok) {
    report.problems.push({ origin: { variable: 'KEYLIME_TEST' }, text: reading.problem });
    return false;
  }
  const warning = 'KEYLIME_TEST is on: emulated TPMs are accepted. Do not use this in production.';
  if (reading.value) report.notes.push({ level: 'warning', text: warning });
  return reading.value;
}

/** Level: `KEYLIME_LOG_LEVEL`, else the higher one of logger and handler in logging.conf. */
function readLogConfig(source: ConfigSource, report: Report): LogConfig {
  const written = readIniFiles('logging', source, report, 'optional');
  const levelIn = (section: string): Level | undefined => {
    const value = written.get(section)?.get('level');
    if (value === undefined) return undefined;
    const reading = loggerOptions.level.read(value.text, { workDir: '/' });
    if (reading.ok) return reading.value;
    const text = describeBadValue('level', loggerOptions.level, value.text, reading.problem);
    report.problems.push({ origin: value.origin, text });
    return undefined;
  };
  const logger = levelIn('logger_keylime') ?? levelIn('logger_root') ?? 'info';
  const handler = levelIn('handler_consoleHandler') ?? 'debug';
  return logFromEnvironment(
    source,
    report,
    LEVELS[Math.max(LEVELS.indexOf(logger), LEVELS.indexOf(handler))] ?? 'info',
  );
}

function logFromEnvironment({ env }: ConfigSource, report: Report, fromFile: Level): LogConfig {
  const { KEYLIME_LOG_LEVEL: level = '', KEYLIME_LOG_FORMAT: format = '' } = env;
  const parsed = level === '' ? fromFile : parseLevel(level);
  if (parsed === undefined) {
    report.problems.push({
      origin: { variable: 'KEYLIME_LOG_LEVEL' },
      text: 'expected DEBUG, INFO, WARNING, ERROR or CRITICAL',
    });
  }
  if (!['', 'text', 'json'].includes(format)) {
    report.problems.push({ origin: { variable: 'KEYLIME_LOG_FORMAT' }, text: 'expected text or json' });
  }
  return { level: parsed ?? fromFile, format: format === 'json' ? 'json' : 'text' };
}

function collect(report: Report, origin: Settled<Tables>['origin'], problems: Problems): void {
  for (const { section, option, text } of problems) {
    const where = option === undefined ? undefined : origin(section, option);
    report.problems.push(where === undefined ? { text } : { origin: where, text });
  }
}

const describeProblem = ({ origin, text }: ConfigProblem): string =>
  origin === undefined ? text : `${describeOrigin(origin)}: ${text}`;

function describeOrigin(origin: Origin): string {
  if ('variable' in origin) return origin.variable;
  return origin.line === undefined ? origin.file : `${origin.file}:${origin.line}`;
}
