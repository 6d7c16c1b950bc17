import { bad, custom, good, type Option, strip, text } from '../options.ts';

/** Log levels, least first. */
export const LEVELS = ['debug', 'info', 'warning', 'error', 'critical'] as const;
export type Level = (typeof LEVELS)[number];

const ALIASES: Readonly<Record<string, Level>> = {
  warn: 'warning',
  fatal: 'critical',
  notset: 'debug',
  trace: 'debug',
};

/** A log level by its name in any case (`WARN`, `FATAL`, `NOTSET` as Python knows them), or `undefined`. */
export function parseLevel(name: string): Level | undefined {
  const word = strip(name).toLowerCase();
  return LEVELS.find((level) => level === word) ?? (Object.hasOwn(ALIASES, word) ? ALIASES[word] : undefined);
}

export const levelOption = (doc: string): Option<Level> =>
  custom('`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL`', 'INFO', doc, (raw) => {
    const level = parseLevel(raw);
    return level === undefined ? bad('expected DEBUG, INFO, WARNING, ERROR or CRITICAL') : good(level);
  });

/** `[logger_keylime]` of logging.conf. */
export const loggerOptions = {
  level: levelOption('Least level that is logged; the variable `KEYLIME_LOG_LEVEL` beats it.'),
  qualname: text('keylime', 'Not used.'),
  handlers: text('', 'Not used.'),
} as const;
