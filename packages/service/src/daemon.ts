import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Log } from './log.ts';

export type Daemon = {
  /** As the operator calls it, `keylime_verifier`. */
  readonly name: string;
  /** Where its package.json is. */
  readonly packageFolder: string;
  /** What it does and where it finds its settings. */
  readonly about: string;
  /** Reads the settings; unless they are only to be checked it then serves, and resolves when it has stopped. */
  readonly main: (options: { readonly checkOnly: boolean }) => Promise<void>;
};

const OPTIONS = `
  --check    read the settings and the certificates, say what is wrong, and stop
  --version  print the version
  --help     print this
`;

/** Runs a program that serves until it is told to stop, by its command line. Ends the process. */
export async function runDaemon({ name, packageFolder, about, main }: Daemon): Promise<void> {
  try {
    const { values } = parseArgs({
      options: { check: { type: 'boolean' }, version: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
    });
    if (values.help) {
      process.stdout.write(`Usage: ${name} [--check]\n\n${about}${OPTIONS}`);
    } else if (values.version) {
      const text = await readFile(path.join(packageFolder, 'package.json'), 'utf8');
      process.stdout.write(`${name} ${(JSON.parse(text) as { version: string }).version}\n`);
    } else {
      await main({ checkOnly: values.check ?? false });
    }
    process.exit(0);
  } catch (error) {
    // What an operator can mend is told in one line, or in the list that the configuration makes.
    process.stderr.write(`${name}: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exit(1);
  }
}

/** Aborted at the first SIGINT or SIGTERM. */
export function stopSignal(log: Log): AbortSignal {
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) return;
      log.info('Stopping', { signal });
      stopping.abort();
    });
  }
  return stopping.signal;
}

/** Resolves when `signal` is aborted. */
export async function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
}
