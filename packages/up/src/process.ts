import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

/** A program of ours that runs until it is stopped. */
export type Service = {
  readonly name: string;
  readonly logFile: string;
  /** Resolves with the reason if it ends before it is stopped. */
  readonly ended: Promise<Error>;
  readonly stop: () => Promise<void>;
};

/** The file that starts one of the programs of this repository. */
export const programOf = (name: 'verifier' | 'registrar' | 'agent' | 'tenant' | 'ca' | 'policy'): string => {
  const folder = name === 'policy' ? 'policy-tool' : name;
  return fileURLToPath(new URL(`../../${folder}/bin/keylime_${name}.mjs`, import.meta.url));
};

const KILL_AFTER_MS = 15_000;
/** Ctrl-C goes to all programs of a terminal at once: they may end a moment before they are told to. */
const GRACE_MS = 300;

/** Starts a program under this Node, its output in `logFile`. */
export function startService(
  name: string,
  main: string,
  { env, logFile }: { readonly env: Readonly<Record<string, string>>; readonly logFile: string },
): Service {
  const output = openSync(logFile, 'a', 0o600);
  const child = spawn(process.execPath, [main], {
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output],
  });
  let stopping = false;
  const exited = once(child, 'exit');
  const onExit = () => child.kill('SIGKILL');
  process.once('exit', onExit);
  return {
    name,
    logFile,
    ended: exited.then(async ([code, signal]) => {
      await sleep(GRACE_MS);
      const reason = `the ${name} ended with ${code ?? signal}: see ${logFile}`;
      return stopping ? new Promise<Error>(() => {}) : new Error(reason);
    }),
    async stop() {
      stopping = true;
      process.removeListener('exit', onExit);
      child.kill('SIGTERM');
      const timer = setTimeout(onExit, KILL_AFTER_MS);
      if (child.exitCode === null && child.signalCode === null) await exited;
      clearTimeout(timer);
    },
  };
}

/** Runs a program to its end. `output` is stdout, then stderr. */
export function execute(
  file: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ readonly code: number; readonly stdout: string; readonly output: string }> {
  return new Promise((resolve) => {
    execFile(
      file,
      [...args],
      { env: { ...process.env, ...env }, maxBuffer: 16 * 1024 * 1024 },
      (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ code, stdout, output: `${stdout}${stderr}` });
      },
    );
  });
}
