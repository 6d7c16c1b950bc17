import { pythonJson } from '@keylime/api/python-json';
import { type Json, parseJson } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';

/**
 * Where a command speaks: log lines in the format of the existing tool, and data lines, both on stdout. [compat] Scripts
 * take the lines that start with `{` (spec 07 section 3.8).
 */
export type Output = {
  readonly log: Log;
  /** Writes one line. */
  readonly print: (line: string) => void;
  /** Says on a terminal what is being done now; never part of what scripts read. */
  readonly progress: (step: string) => void;
};

/** A log line that announces data, and the data on a line of its own as Python's `json.dumps` prints it. */
export function printJson({ log, print }: Output, announcement: string, value: Json): void {
  log.info(announcement);
  print(pythonJson(value));
}

/** Text of a peer's answer for an error message: on one line, and not longer than a screen. */
export function excerpt(text: string, length = 500): string {
  const line = text.replace(/[\p{Cc}\s]+/gu, ' ').trim();
  return line.length > length ? `${line.slice(0, length)}…` : line;
}

/** JSON if `text` is JSON. */
export const jsonOf = (text: string): Json | undefined => (text === '' ? undefined : parseJson(text));
