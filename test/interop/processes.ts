import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

export type Launch = {
  readonly command: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly cwd?: string;
};

/** A started program; stdout and stderr go to the file `log`. */
export type Program = {
  readonly name: string;
  readonly pid: number;
  readonly log: string;
  /** Exit code or signal name, or `undefined` while it runs. */
  readonly ended: () => number | string | undefined;
  /** SIGTERM to the whole process group, then SIGKILL after `graceMs`. */
  readonly stop: (graceMs?: number) => Promise<void>;
};

/** What every program gets of our environment: no proxy, no configuration of the machine's own services. */
const inherited = (): Record<string, string> => {
  const { PATH = '/usr/bin:/bin', HOME = '/root' } = process.env;
  return { PATH: `${PATH}:/usr/sbin:/sbin`, HOME, LANG: 'C.UTF-8', PYTHONUNBUFFERED: '1', NODE_NO_WARNINGS: '1' };
};

const groups = new Set<number>();

const signalGroup = (pid: number, what: NodeJS.Signals) => {
  try {
    process.kill(-pid, what);
  } catch {
    // The group is gone already.
  }
};

/** Kills at once whatever `startProgram` started and still runs. */
export function stopAllPrograms(): void {
  for (const pid of groups) signalGroup(pid, 'SIGKILL');
}
process.once('exit', stopAllPrograms);

/** Starts a program in a process group of its own, so that its workers end with it. Throws if it cannot be started. */
export async function startProgram(name: string, launch: Launch, log: string): Promise<Program> {
  const output = openSync(log, 'a');
  const child = spawn(launch.command, launch.args, {
    cwd: launch.cwd,
    env: { ...inherited(), ...launch.env },
    stdio: ['ignore', output, output],
    detached: true,
  });
  closeSync(output);
  await once(child, 'spawn');
  const pid = child.pid;
  if (pid === undefined) throw new Error(`${name} did not start: ${launch.command}`);
  groups.add(pid);
  return {
    name,
    pid,
    log,
    ended: () => child.exitCode ?? child.signalCode ?? undefined,
    stop: async (graceMs = 3000) => {
      if (child.exitCode === null && child.signalCode === null) {
        const exited = once(child, 'exit');
        signalGroup(pid, 'SIGTERM');
        await Promise.race([exited, delay(graceMs, undefined, { ref: false })]);
      }
      signalGroup(pid, 'SIGKILL');
      if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
      groups.delete(pid);
    },
  };
}

export type Finished = { readonly code: number; readonly stdout: string; readonly stderr: string };

/** Runs a program to its end and keeps its output; kills it after `timeoutMs` (exit code 124). */
export async function runProgram(launch: Launch, timeoutMs = 90_000): Promise<Finished> {
  const child = spawn(launch.command, launch.args, {
    cwd: launch.cwd,
    env: { ...inherited(), ...launch.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text;
  });
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
  }, timeoutMs);
  try {
    const [code] = await once(child, 'close');
    return { ...output, code: late ? 124 : typeof code === 'number' ? code : 1 };
  } finally {
    clearTimeout(timer);
  }
}

/** Last `lines` lines of a log file, or a word that says there is none. */
export function logTail(file: string, lines = 15): string {
  if (!existsSync(file)) return '(no log)';
  return readFileSync(file, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
}

/** Asks `probe` until it answers something other than `undefined`; rejects after `timeoutMs`, or when `program` has ended. */
export async function waitFor<T>(
  what: string,
  probe: () => Promise<T | undefined>,
  options: { readonly timeoutMs: number; readonly everyMs?: number; readonly program?: Program },
): Promise<T> {
  const { timeoutMs, everyMs = 50, program } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    const ended = program?.ended();
    if (program && ended !== undefined) {
      throw new Error(`${what}: ${program.name} ended with ${ended}\n${logTail(program.log)}`);
    }
    if (performance.now() > deadline) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await delay(everyMs);
  }
}

/** `count` TCP ports of 127.0.0.1 that were free a moment ago; each with the next one free too if `pairs`. */
export async function freePorts(count: number, pairs = false): Promise<number[]> {
  const isFree = async (port: number) => {
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
      const address = server.address();
      return address !== null && typeof address === 'object' ? address.port : undefined;
    } catch {
      return undefined;
    } finally {
      server.close();
    }
  };
  const found = new Set<number>();
  while (found.size < count) {
    const port = await isFree(0);
    if (port === undefined) continue;
    if (pairs && (await isFree(port + 1)) === undefined) continue;
    found.add(port);
  }
  return [...found];
}
