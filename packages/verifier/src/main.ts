import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { loadCaConfig, loadVerifierConfig } from '@keylime/service/config';
import { type Log, logNotes, openLog } from '@keylime/service/log';
import { type RunningVerifier, startVerifier } from './start.ts';
import { openTlsMaterial } from './tls-material.ts';

const HELP = `Usage: keylime_verifier [--check]

Attests enrolled agents, over and over, and raises the alarm when one fails.
Settings: /etc/keylime/verifier.conf and verifier.conf.d, or the file that KEYLIME_VERIFIER_CONFIG names,
and environment variables such as KEYLIME_VERIFIER_PORT.

  --check    read the settings and the certificates, say what is wrong, and stop
  --version  print the version
  --help     print this
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { check: { type: 'boolean' }, version: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (values.version) {
    const text = await readFile(path.join(import.meta.dirname, '..', 'package.json'), 'utf8');
    return void process.stdout.write(`keylime_verifier ${(JSON.parse(text) as { version: string }).version}\n`);
  }
  const { config, notes } = loadVerifierConfig({ env: process.env });
  const ca = loadCaConfig({ env: process.env });
  const log = openLog({ name: 'keylime.verifier', level: config.log.level, format: config.log.format });
  logNotes(log, notes);
  logNotes(log, ca.notes);
  if (values.check) {
    if (config.tls_dir !== 'generate') await openTlsMaterial(config, ca.config, log);
    return log.info('The settings are good');
  }
  const start = () => startVerifier(config, ca.config, log);
  let verifier: RunningVerifier | undefined = await start();
  const ending = new AbortController();
  const stop = async (signal: string) => {
    if (ending.signal.aborted) return;
    ending.abort();
    log.info('Stopping', { signal });
    await verifier?.close();
    log.info('Stopped');
    process.exit(0);
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop(signal).catch(fail));
  process.on('SIGHUP', () => void verifier?.certificates.renew());

  while (verifier !== undefined) {
    const error = await verifier.broken;
    if (ending.signal.aborted) return;
    log.critical('The database connection that made this process the verifier is lost: starting again', { error });
    const lost: RunningVerifier = verifier;
    verifier = undefined;
    await lost.close().catch((closing: unknown) => log.error('Closing went wrong', { error: closing }));
    verifier = await startUntilItGoes(start, log, ending.signal);
  }
}

const START_AGAIN_MS = 1000;

/** What ran before will run again, once the database is back; `undefined` if the program is to end before that. */
async function startUntilItGoes(
  start: () => Promise<RunningVerifier>,
  log: Log,
  ending: AbortSignal,
): Promise<RunningVerifier | undefined> {
  while (!ending.aborted) {
    try {
      return await start();
    } catch (error) {
      log.error('The verifier cannot start yet, it is tried again', { error });
    }
    await sleep(START_AGAIN_MS);
  }
  return undefined;
}

/** What an operator can mend is told in one line, or in the list that the configuration makes. */
function fail(error: unknown): void {
  process.stderr.write(`keylime_verifier: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
