import { rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { boundProblems } from './bounds.ts';
import { untilToldToEnd } from './ending.ts';
import { enrol, tamper } from './story.ts';
import { startTrial, type Trial } from './trial.ts';

const HELP = `Usage: npm run up [-- OPTIONS]

Starts registrar, verifier and three machines on software TPMs, attests them, runs something unknown on one, and shows how
it is caught.

  --check              do the whole story without a person, then stop; exit status 0 only if all of it happened
  --json               print one JSON object with the times (with --check)
  --patience FACTOR    with --check, how many times as long as promised everything may take (default 1)
  --interval SECONDS   time between two attestations (default 0.25)
  --folder FOLDER      where everything is kept (default .up; it is emptied first, and removed at the end)
  --keep               do not remove it; after a failure it always stays, for its logs
  --help               print this
`;

const MACHINES = ['alpha', 'beta', 'gamma'] as const;

async function main(): Promise<void> {
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
  if (values.help) return void process.stdout.write(HELP);
  const quoteIntervalSeconds = Number(values.interval);
  if (!(quoteIntervalSeconds >= 0.05 && quoteIntervalSeconds <= 3600)) {
    throw new Error('--interval takes seconds from 0.05 to 3600.');
  }
  const patience = Number(values.patience);
  if (!(patience >= 1 && patience <= 1000)) throw new Error('--patience takes a number from 1 to 1000.');
  const say = values.json ? () => {} : (text: string) => process.stdout.write(`${text}\n`);
  const folder = resolve(values.folder);

  const ended = untilToldToEnd();
  try {
    await using trial = await startTrial({ folder, quoteIntervalSeconds, machines: MACHINES, say });
    const told = story(trial, say, values.check);
    const result = await Promise.race([told, ended, trial.broken]);
    if (result instanceof Error) throw result;
    if (result !== 'ended') {
      const problems = values.check ? boundProblems(result, patience) : [];
      if (values.json) process.stdout.write(`${JSON.stringify({ ok: problems.length === 0, problems, ...result })}\n`);
      for (const problem of problems) process.stderr.write(`up: ${problem}\n`);
      if (problems.length > 0) process.exitCode = 1;
      if (!values.check) {
        say('Everything keeps running; Ctrl-C stops it.');
        const end = await Promise.race([ended, trial.broken]);
        if (end instanceof Error) throw end;
      }
    }
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (values.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`);
    process.stderr.write(`up: ${message}\nLogs: ${join(folder, 'logs')}\n`);
    process.exitCode = 1;
    return;
  }
  if (!values.keep) await rm(folder, { recursive: true, force: true });
}

async function story(trial: Trial, say: (text: string) => void, hurry: boolean) {
  const ms = (value: number) => `${Math.round(value)} ms`;
  const { attesters } = trial;
  const [tampered] = attesters;
  if (tampered === undefined) throw new Error('there is no machine');
  say(`✓ Registered: the registrar knows ${attesters.length} machines by their TPMs (${ms(tampered.registeredMs)})`);
  let enrolled = { enrolled_ms: 0, first_pass_ms: 0, bootstrap_ms: 0 };
  for (const attester of attesters.toReversed()) {
    enrolled = await enrol(trial, attester);
    say(
      `✓ Enrolled ${attester.machine.name} (${ms(enrolled.enrolled_ms)}); it has its secrets after ${ms(enrolled.bootstrap_ms)}`,
    );
  }
  if (!hurry) {
    for (let seconds = 5; seconds > 0; seconds--) {
      const { attestation_count: count } = (await tampered.status()) ?? {};
      say(`  attested ${count} times; something unknown runs in ${seconds} s`);
      await sleep(1000);
    }
  }
  const caught = await tamper(trial, tampered);
  say(`✗ Caught: ${caught.message}`);
  say(
    `  ${ms(caught.detected_ms)} after it was measured, reported ${ms(caught.notified_ms)} later (${caught.event_id})`,
  );
  return { registered_ms: round(tampered.registeredMs), ...rounded(enrolled), ...caught };
}

const round = (value: number): number => Math.round(value * 10) / 10;
const rounded = <T extends Readonly<Record<string, number>>>(times: T) =>
  Object.fromEntries(Object.entries(times).map(([name, value]) => [name, round(value)])) as Record<keyof T, number>;

await main();
process.exit();
