import { createRequire } from 'node:module';
import type pino from 'pino';
import { LEVELS, type Level } from './options/logging.ts';

export type { Level } from './options/logging.ts';

/** Data of a log line. Values of names like `password` or `token` are left out; still, never pass a secret. */
export type LogFields = { readonly [name: string]: unknown };

/** One method per level: an event in words (what happened, not with what), and fields. Never throws. */
export type Log = {
  readonly debug: (event: string, fields?: LogFields) => void;
  readonly info: (event: string, fields?: LogFields) => void;
  readonly warn: (event: string, fields?: LogFields) => void;
  readonly error: (event: string, fields?: LogFields) => void;
  readonly critical: (event: string, fields?: LogFields) => void;
  /** Ask before working out costly fields. */
  readonly enabled: (level: Level) => boolean;
  /** A log whose lines all carry `fields`; `reqid` is shown as the existing services do. */
  readonly child: (fields: LogFields) => Log;
};

export type LogOptions = {
  /** Shown on every line, like `keylime.verifier`. */
  readonly name: string;
  readonly level?: Level;
  readonly format?: 'text' | 'json';
  /** File descriptor (1 is stdout, the default; 2 is stderr), path of a file, or somewhere else to write whole lines. */
  readonly destination?: number | string | { readonly write: (line: string) => unknown };
  /** Milliseconds since 1970. */
  readonly now?: () => number;
};

/** What a full disk does not take is kept up to here, then dropped. */
const MAX_UNWRITTEN_BYTES = 1 << 20;

/** Late: command lines that write text to their terminal start without it. */
const pinoOf = (): typeof pino => createRequire(import.meta.url)('pino');

const LEVEL_NUMBERS = { debug: 20, info: 30, warning: 40, error: 50, critical: 60 } as const;

/**
 * Opens a log. Text lines look like `2026-08-04 10:15:03.123 - keylime.verifier - INFO - event name=value`, in local
 * time, as the tools of the field expect; JSON lines hold `time`, `level`, `name`, `msg` and `fields`. Lines are written
 * before the call returns, so none is lost at exit. No text can start a line of its own: control characters are escaped.
 */
export function openLog({ name, level = 'info', format = 'text', destination = 1, now = Date.now }: LogOptions): Log {
  const sink = typeof destination === 'object' ? destination : openSink(destination);
  const write = format === 'json' ? jsonWriter(name, level, sink, now) : textWriter(name, sink, now);
  return makeLog(LEVELS.indexOf(level), write, {});
}

function openSink(destination: number | string): Sink {
  const sink = pinoOf().destination({ dest: destination, sync: true, maxLength: MAX_UNWRITTEN_BYTES });
  sink.on('error', () => {}); // a full disk is no reason to stop attesting; pino itself copes with a reader that left
  return sink;
}

/** Writes the notes that reading the configuration left. */
export function logNotes(
  log: Log,
  notes: readonly { readonly level: 'info' | 'warning'; readonly text: string }[],
): void {
  for (const { level, text } of notes) (level === 'info' ? log.info : log.warn)(text);
}

type Write = (level: Level, event: string, fields: LogFields) => void;
type Sink = { readonly write: (line: string) => unknown };

function makeLog(least: number, write: Write, bound: LogFields): Log {
  const at = (level: Level) => {
    if (LEVELS.indexOf(level) < least) return () => {};
    return (event: string, fields?: LogFields) =>
      write(level, event, fields === undefined ? bound : { ...bound, ...fields });
  };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warning'),
    error: at('error'),
    critical: at('critical'),
    enabled: (level) => LEVELS.indexOf(level) >= least,
    child: (fields) => makeLog(least, write, { ...bound, ...fields }),
  };
}

function textWriter(name: string, sink: Sink, now: () => number): Write {
  const stamp = timestamps();
  return (level, event, fields) => {
    let line = `${stamp(now())} - ${name} - ${level.toUpperCase()} - ${escapeControls(event)}`;
    for (const [key, value] of Object.entries(fields)) {
      if (key !== 'reqid' && value !== undefined) line += ` ${key}=${fieldText(visible(key, value))}`;
    }
    if (fields.reqid !== undefined) line += ` (reqid=${fieldText(fields.reqid)})`;
    sink.write(`${line}\n`);
  };
}

function jsonWriter(name: string, level: Level, sink: Sink, now: () => number): Write {
  const logger = pinoOf()(
    {
      level,
      customLevels: LEVEL_NUMBERS,
      useOnlyCustomLevels: true,
      base: { name },
      nestedKey: 'fields',
      timestamp: () => `,"time":"${new Date(now()).toISOString()}"`,
      formatters: { level: (label) => ({ level: label.toUpperCase() }) },
    },
    sink as pino.DestinationStream,
  );
  return (at, event, fields) => {
    const shown = Object.entries(fields).map(([key, value]) => [key, plain(visible(key, value))]);
    logger[at](Object.fromEntries(shown), event);
  };
}

/** Names of fields whose values never appear. `v`, `u` and `k` are the shares and the key of a payload. */
const SECRET_NAME = /^(u|v|k)$|passw|secret|token|private_?key|revocation_?key|payload_?key|authorization/i;

const visible = (key: string, value: unknown): unknown => (SECRET_NAME.test(key) ? '[not shown]' : value);

/** Errors by their message, code and causes; what JSON cannot say, as text. */
function plain(value: unknown): unknown {
  if (value instanceof Error) return errorText(value);
  if (typeof value === 'bigint') return value.toString();
  if (value instanceof Uint8Array) return Buffer.from(value).toString('hex');
  return value;
}

function errorText(error: Error): string {
  const code = 'code' in error && typeof error.code === 'string' ? ` [${error.code}]` : '';
  const cause = error.cause instanceof Error && error.cause !== error ? `: ${error.cause.message}` : '';
  return `${error.message}${code}${cause}`;
}

function fieldText(value: unknown): string {
  const simple = plain(value);
  const text = typeof simple === 'string' ? simple : safeJson(simple);
  return escapeControls(/^[^\s"=]+$/.test(text) || typeof simple !== 'string' ? text : JSON.stringify(text));
}

function safeJson(value: unknown): string {
  try {
    return JSON.stringify(value, (_, inner) => (typeof inner === 'bigint' ? inner.toString() : inner)) ?? String(value);
  } catch {
    return '[cannot be shown]';
  }
}

/** C0, C1, DEL, line separators, and marks that change the direction of text: all could make one line look like others. */
const CONTROLS = /[\p{Cc}\p{Cs}\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/** `text` as one line that no terminal stumbles over. */
export const escapeControls = (text: string): string =>
  text.replace(CONTROLS, (character) => {
    if (character === '\n') return '\\n';
    if (character === '\r') return '\\r';
    if (character === '\t') return '\\t';
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
  });

/** `2026-08-04 10:15:03.123` in local time; the part before the milliseconds is worked out once a second. */
function timestamps(): (ms: number) => string {
  let second = -1;
  let prefix = '';
  const two = (value: number) => String(value).padStart(2, '0');
  return (ms) => {
    const current = Math.floor(ms / 1000);
    if (current !== second) {
      const date = new Date(ms);
      const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
      prefix = `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
      second = current;
    }
    return `${prefix}.${String(Math.floor(ms) % 1000).padStart(3, '0')}`;
  };
}
