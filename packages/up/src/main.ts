import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { enrol, tamper } from './story.ts';
import { startTrial, type Trial } from './trial.ts';

const HELP = `Usage: npm run up [-- OPTIONS]

Starts registrar, verifier and agent on a software TPM, attests it, runs something unknown, and shows how it is caught.

  --check              do the whole story without a person, then stop; exit status 0 only if all of it happened
  --json               print one JSON object with the times (with --check)
  --interval SECONDS   time between two attestations (default 0.25)
  --folder FOLDER      where everything is kept (default .up; it is emptied first)
  --help               print this
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      interval: { type: 'string', default: '0.25' },
      folder: { type: 'string', default: '.up' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return void process.stdout.write(HELP);
  const interval = Number(values.interval);
  if (!(interval >= 0.05 && interval <= 3600)) throw new Error('--interval takes seconds from 0.05 to 3600.');
  const say = values.json ? () => {} : (text: string) => process.stdout.write(`${text}\n`);
  const folder = resolve(values.folder);

  let trial: Trial | undefined;
  const interrupted = new Promise<'interrupted'>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve('interrupted'));
  });
  try {
    trial = await startTrial(folder, interval, say);
    const told = story(trial, folder, say, values.check);
    const result = await Promise.race([told, interrupted, trial.broken]);
    if (result instanceof Error) throw result;
    if (result === 'interrupted') return;
    if (values.json) process.stdout.write(`${JSON.stringify({ ok: true, ...result })}\n`);
    if (values.check) return;
    say(`\nEverything keeps running; Ctrl-C stops it. Look around with, for example:`);
    say(`  ${trial.tenantCommand} -c cvstatus -u ${trial.agentId}`);
    say(`Logs: ${trial.logFiles.join(' ')}`);
    const end = await Promise.race([interrupted, trial.broken]);
    if (end instanceof Error) throw end;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (values.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`);
    process.stderr.write(`up: ${message}\n`);
    process.exitCode = 1;
  } finally {
    await trial?.stop();
  }
}

async function story(trial: Trial, folder: string, say: (text: string) => void, hurry: boolean) {
  const ms = (value: number) => `${Math.round(value)} ms`;
  say(`✓ Registered: the registrar knows the machine by its TPM (${ms(trial.registeredMs)})`);
  const policyFile = join(folder, 'policy.json');
  await writeFile(policyFile, await trial.machine.policy());
  const enrolled = await enrol(trial, policyFile);
  say(`✓ Enrolled: ${trial.agentId} (${ms(enrolled.enrolled_ms)})`);
  say(`✓ Attested: it runs what it should (first time ${ms(enrolled.first_pass_ms)} after it was enrolled)`);
  if (!hurry) {
    for (let seconds = 5; seconds > 0; seconds--) {
      const { attestation_count: count } = (await trial.status()) ?? {};
      say(`  attested ${count} times; something unknown runs in ${seconds} s`);
      await sleep(1000);
    }
  }
  const caught = await tamper(trial);
  say(`✗ Caught: ${caught.message}`);
  say(
    `  ${ms(caught.detected_ms)} after it was measured, reported ${ms(caught.notified_ms)} later (${caught.event_id})`,
  );
  return { registered_ms: round(trial.registeredMs), ...rounded(enrolled), ...caught };
}

const round = (value: number): number => Math.round(value * 10) / 10;
const rounded = <T extends Readonly<Record<string, number>>>(times: T) =>
  Object.fromEntries(Object.entries(times).map(([name, value]) => [name, round(value)])) as Record<keyof T, number>;

await main();
process.exit();
