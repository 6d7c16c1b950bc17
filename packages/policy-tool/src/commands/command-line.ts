import { escapeControls, type Log, openLog } from '@keylime/service/log';
import { type Command, InvalidArgumentError } from 'commander';
import type { Writer } from '../files.ts';
import { printableJson } from '../printable.ts';
import { type Paint, paintFor } from '../table.ts';

/** The process around the command. */
export type Environment = {
  readonly env: { readonly [name: string]: string | undefined };
  readonly stdout: Writer & { readonly isTTY?: boolean };
  readonly stderr: Writer & { readonly isTTY?: boolean; readonly columns?: number };
  readonly version: string;
  readonly now: () => Date;
};

/** What the actions of commands use to answer. */
export type Answers = Environment & {
  /** `destination` is stderr unless it is given. */
  readonly logOf: (options: Verbose, destination?: Writer) => Log;
  /** Lines on stdout; names in them come from files of others and cannot make one line look like several. */
  readonly print: (lines: readonly string[]) => void;
  readonly printJson: (value: object) => void;
  /** Lines with colours, where stdout is a terminal; `paint` makes the texts in them as safe as `print` does. */
  readonly printPainted: (linesOf: (paint: Paint) => readonly string[]) => void;
  /** Makes the command end with 1: it did its work, and the answer is no. */
  readonly refuse: () => void;
};

export type Verbose = { readonly verbose?: boolean };
export type Output = { readonly output?: string };
export type Json = { readonly json?: boolean };
export type Keys = { readonly key?: readonly string[] };

export function openAnswers(environment: Environment, refuse: () => void): Answers {
  const { stdout, stderr, now, env } = environment;
  const write = (lines: readonly string[]) => void stdout.write(lines.map((line) => `${line}\n`).join(''));
  return {
    ...environment,
    logOf: ({ verbose }, destination = stderr) =>
      openLog({
        name: 'keylime.policy',
        level: verbose ? 'debug' : 'info',
        destination,
        now: () => now().getTime(),
      }),
    print: (lines) => write(lines.map(escapeControls)),
    printJson: (value) => write([printableJson(value)]),
    printPainted: (linesOf) => write(linesOf(paintFor(stdout, env))),
    refuse,
  };
}

/** A new command below another. */
export const addCommand = (parent: Command, name: string, description: string): Command =>
  parent.command(name).description(description).helpOption('-h, --help', 'print this help');

export const verboseOption = (to: Command): Command => to.option('-v, --verbose', 'log details, too');

export const keyOption = (to: Command): Command =>
  to.option(
    '-k, --key <file>',
    'public key or certificate in PEM that a signed policy must be signed by (repeatable)',
    each,
  );

/** Collects the values of an option that may be given more than once. */
export const each = (text: string, before: readonly string[] = []): readonly string[] => [...before, text];

/** @throws InvalidArgumentError */
export function positive(text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value > 0 && value <= 1024) return value;
  throw new InvalidArgumentError('A number from 1 to 1024 is wanted.');
}
