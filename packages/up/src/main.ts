import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { boundProblems } from './bounds.ts';
import { untilToldToEnd } from './ending.ts';
import { lookAround } from './look-around.ts';
import { tellStory } from './tell.ts';
import { startTrial } from './trial.ts';

const HELP = `Usage: npm run up [-- OPTIONS]

Starts a registrar, a verifier and three machines on software TPMs, hands them their secrets, attests them, tampers with two
of them, and shows how they are caught.

  --check              do the whole story without a person, then stop; exit status 0 only if all of it happened, in time
  --json               print one JSON object with the times (with --check)
  --patience FACTOR    with --check, how many times as long as promised everything may take (default 1)
  --interval SECONDS   time between two attestations (default 0.25)
  --folder FOLDER      where everything is kept (default .up; it is emptied first, and removed at the end)
  --keep               do not remove it; after a failure it always stays, for its logs
  --help               print this
`;

const MACHINES = ['alpha', 'beta', 'gamma'] as const;

type Options = {
  readonly check: boolean;
  readonly json: boolean;
  readonly patience: number;
  readonly interval: number;
  readonly folder: string;
  readonly keep: boolean;
};

/** @throws Error for the person who typed the command */
function readOptions(): Options | 'help' {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      patience: { type: 'string', default: '1' },
      interval: { type: 'string', default: '0.25' },
      folder: { type: 'string', default: '.up' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return 'help';
  const interval = Number(values.interval);
  if (!(interval >= 0.05 && interval <= 3600)) throw new Error('--interval takes seconds from 0.05 to 3600.');
  const patience = Number(values.patience);
  if (!(patience >= 1 && patience <= 1000)) throw new Error('--patience takes a number from 1 to 1000.');
  return { ...values, interval, patience, folder: resolve(values.folder) };
}

/** What is wrong with what happened, one line each; nothing if it is as it should be. */
async function run(
  options: Options,
  say: (text: string) => void,
  tell: (result: object) => void,
): Promise<readonly string[]> {
  const { folder, check } = options;
  const ended = untilToldToEnd();
  await using trial = await startTrial({ folder, quoteIntervalSeconds: options.interval, machines: MACHINES, say });
  const told = await Promise.race([tellStory(trial, say, check), ended, trial.broken]);
  if (told instanceof Error) throw told;
  if (told === 'ended') return check ? ['interrupted'] : [];
  if (check) {
    const problems = boundProblems(told, options.patience);
    tell({ ok: problems.length === 0, ...rounded(told), problems });
    return problems;
  }
  for (const line of await lookAround(trial)) say(line);
  const end = await Promise.race([ended, trial.broken]);
  if (end instanceof Error) throw end;
  return [];
}

const rounded = (times: object): object =>
  Object.fromEntries(
    Object.entries(times).map(([name, value]) => [
      name,
      typeof value === 'number' ? Math.round(value * 10) / 10 : value,
    ]),
  );

async function main(): Promise<number> {
  const options = readOptions();
  if (options === 'help') {
    process.stdout.write(HELP);
    return 0;
  }
  const { json, keep, folder } = options;
  const print = (text: string) => void process.stdout.write(`${text}\n`);
  const tell = (result: object) => json && print(JSON.stringify(result));
  let problems: readonly string[];
  try {
    problems = await run(options, json ? () => {} : print, tell);
  } catch (error) {
    problems = [error instanceof Error ? error.message : String(error), `Logs: ${join(folder, 'logs')}`];
    tell({ ok: false, error: problems[0] });
    for (const problem of problems) process.stderr.write(`up: ${problem}\n`);
    return 1;
  }
  if (!keep) await rm(folder, { recursive: true, force: true });
  for (const problem of problems) process.stderr.write(`up: ${problem}\n`);
  return problems.length === 0 ? 0 : 1;
}

try {
  process.exit(await main());
} catch (error) {
  process.stderr.write(`up: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}
