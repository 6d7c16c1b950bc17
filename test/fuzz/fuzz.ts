import { parseArgs } from 'node:util';
import type { FuzzOptions } from './options.ts';

/** A target returns what it did; what it found is in `failure`. */
type Target = {
  readonly run: (options: FuzzOptions) => Promise<{ readonly inputs: number; readonly failure?: string }>;
};

const TARGETS: Readonly<Record<string, () => Promise<Target>>> = {
  'event-log': () => import('./event-log.ts'),
};

const { values, positionals } = parseArgs({
  options: { count: { type: 'string' }, seed: { type: 'string', default: '1' } },
  allowPositionals: true,
});
const [name = ''] = positionals;
const load = Object.hasOwn(TARGETS, name) ? TARGETS[name] : undefined;
const count = values.count === undefined ? undefined : Number(values.count);
const seed = Number(values.seed);
if (load === undefined || !Number.isInteger(count ?? 1) || !Number.isInteger(seed)) {
  process.stderr.write(
    `npm run fuzz -- NAME [--count INPUTS] [--seed NUMBER]; NAME is one of ${Object.keys(TARGETS).join(', ')}\n`,
  );
  process.exitCode = 2;
} else {
  const { run } = await load();
  const say = (text: string): void => void process.stderr.write(`${text}\n`);
  const result = await run({ seed, say, ...(count === undefined ? {} : { count }) });
  process.stdout.write(`${JSON.stringify(result, null, 2)}\n`);
  if (result.failure !== undefined) process.exitCode = 1;
}
