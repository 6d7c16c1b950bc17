import { readFileSync } from 'node:fs';
import { run } from './run.ts';

const { version } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
  readonly version: string;
};

// Nothing that is written here is for others to read, unless a file says so itself.
process.umask(0o077);

process.exitCode = await run(process.argv.slice(2), {
  source: { env: process.env },
  stdout: process.stdout,
  stderr: process.stderr,
  version,
  stopped: () =>
    new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve());
    }),
});
