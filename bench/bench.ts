import { cpus, totalmem } from 'node:os';

/** A benchmark prints nothing: it returns what it measured. */
type Benchmark = { readonly run: (args: readonly string[]) => Promise<object> };

const BENCHMARKS: Readonly<Record<string, () => Promise<Benchmark>>> = {
  'quote-verify': () => import('./quote-verify.ts'),
  'ima-replay': () => import('./ima-replay.ts'),
  'ima-signatures': () => import('./ima-signatures.ts'),
  'event-log': () => import('./event-log.ts'),
  'policy-load': () => import('./policy-load.ts'),
  'policy-generation': () => import('./policy-generation.ts'),
  'pull-fleet': () => import('./pull-fleet.ts'),
};

const machine = () => ({
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  memoryGiB: Number((totalmem() / 2 ** 30).toFixed(1)),
  node: process.version,
  openssl: process.versions.openssl,
});

const [name = '', ...args] = process.argv.slice(2).filter((arg) => arg !== '--');
const load = Object.hasOwn(BENCHMARKS, name) ? BENCHMARKS[name] : undefined;
if (load === undefined) {
  process.stderr.write(`npm run bench -- NAME [--json]; NAME is one of ${Object.keys(BENCHMARKS).join(', ')}\n`);
  process.exitCode = 2;
} else {
  const { run } = await load();
  const result = { machine: machine(), ...(await run(args)) };
  process.stdout.write(`${JSON.stringify(result, null, args.includes('--json') ? undefined : 2)}\n`);
}
