import { spawn } from 'node:child_process';
import type { Readable } from 'node:stream';
import { clearTimeout, setTimeout } from 'node:timers';

/** How a program ended. */
export type ProgramEnd =
  | { readonly kind: 'exited'; readonly status: number }
  | { readonly kind: 'killed'; readonly signal: string }
  | { readonly kind: 'timed_out' }
  /** The agent stops. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'not_started'; readonly reason: string };

export type Program = {
  readonly path: string;
  readonly args: readonly string[];
  readonly cwd: string;
  readonly timeoutMs: number;
  /** Takes one line of what the program writes. */
  readonly onLine: (stream: 'stdout' | 'stderr', line: string) => void;
  /** More variables than those of the agent. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Ends the program as running out of time does. */
  readonly signal?: AbortSignal | undefined;
};

/** What a program may have logged; the rest is read, so that it does not block, and counted. */
export const MAX_LOGGED_BYTES = 256 * 1024;
/** What the log adds to a line, about: many short lines fill it, too. */
const LINE_OVERHEAD_BYTES = 100;
const MAX_LINE = 2_000;
const KILL_AFTER_MS = 2_000;
/** A program that leaves others behind which hold its output open is not waited for. */
const OUTPUT_AFTER_EXIT_MS = 200;

/**
 * Runs a program with nothing to read, in a process group of its own, which is killed as a whole when time runs out. What
 * programs it leaves behind when it ends by itself go on.
 */
export function runProgram({ path, args, cwd, timeoutMs, onLine, env, signal }: Program): Promise<ProgramEnd> {
  return new Promise((resolve) => {
    const child = spawn(path, args, {
      cwd,
      env: { ...withoutSettings(process.env), ...env },
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const budget = { leftBytes: MAX_LOGGED_BYTES, droppedBytes: 0 };
    const reading = Promise.all([
      readLines(child.stdout, budget, (line) => onLine('stdout', line)),
      readLines(child.stderr, budget, (line) => onLine('stderr', line)),
    ]);

    let isOver = false;
    let killTimer: NodeJS.Timeout | undefined;
    const killGroup = (which: NodeJS.Signals) => {
      try {
        if (child.pid !== undefined) process.kill(-child.pid, which);
      } catch {
        // The group has ended.
      }
    };
    const stop = () => {
      isOver = true;
      killGroup('SIGTERM');
      killTimer = setTimeout(() => killGroup('SIGKILL'), KILL_AFTER_MS);
    };
    const timer = setTimeout(stop, timeoutMs);
    signal?.addEventListener('abort', stop, { once: true });
    if (signal?.aborted) stop();

    const end = async (how: ProgramEnd) => {
      clearTimeout(timer);
      if (isOver) killGroup('SIGKILL');
      clearTimeout(killTimer);
      signal?.removeEventListener('abort', stop);
      const late = setTimeout(() => {
        child.stdout.destroy();
        child.stderr.destroy();
      }, OUTPUT_AFTER_EXIT_MS);
      await reading;
      clearTimeout(late);
      if (budget.droppedBytes > 0) onLine('stderr', `(${budget.droppedBytes} bytes more were left out)`);
      resolve(how);
    };
    child.once('error', ({ message }) => void end({ kind: 'not_started', reason: message }));
    child.once('exit', (status, killedBy) => {
      if (isOver) void end({ kind: signal?.aborted ? 'stopped' : 'timed_out' });
      else if (killedBy !== null) void end({ kind: 'killed', signal: killedBy });
      else void end({ kind: 'exited', status: status ?? -1 });
    });
  });
}

/** [MUST] Settings hold passwords, and a script of a payload has no need for them. */
const withoutSettings = (env: NodeJS.ProcessEnv): NodeJS.ProcessEnv =>
  Object.fromEntries(Object.entries(env).filter(([name]) => !name.startsWith('KEYLIME_AGENT_')));

/** Gives each line to `onLine` as it comes; long lines are cut, and all is read to the end. */
async function readLines(
  stream: Readable,
  budget: { leftBytes: number; droppedBytes: number },
  onLine: (line: string) => void,
): Promise<void> {
  let rest = '';
  const say = (line: string) => {
    if (budget.leftBytes === 0) {
      budget.droppedBytes += Buffer.byteLength(line) + 1;
      return;
    }
    budget.leftBytes = Math.max(0, budget.leftBytes - Buffer.byteLength(line) - LINE_OVERHEAD_BYTES);
    if (line !== '') onLine(line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line);
  };
  stream.setEncoding('utf8');
  try {
    for await (const chunk of stream) {
      if (budget.leftBytes === 0) {
        budget.droppedBytes += Buffer.byteLength(chunk as string);
        continue;
      }
      const lines = (rest + (chunk as string)).split('\n');
      rest = lines.pop() ?? '';
      for (const line of lines) say(line.replace(/\r$/, ''));
      if (rest.length > MAX_LOGGED_BYTES) {
        say(rest);
        rest = '';
      }
    }
  } catch {
    // Closed because the program has ended and another holds the pipe.
  }
  say(rest);
}
