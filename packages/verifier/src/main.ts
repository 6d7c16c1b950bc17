import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadCaConfig, loadVerifierConfig } from '@keylime/service/config';
import { runDaemon, stopSignal, untilAborted } from '@keylime/service/daemon';
import { type Log, logNotes, openLog } from '@keylime/service/log';
import { openBootPolicies } from './boot-policies.ts';
import { bootPolicySettings, type RunningVerifier, startVerifier } from './start.ts';
import { openTlsMaterial } from './tls-material.ts';

const ABOUT = `Attests enrolled agents, over and over, and raises the alarm when one fails.
Settings: /etc/keylime/verifier.conf and verifier.conf.d, or the file that KEYLIME_VERIFIER_CONFIG names,
and environment variables such as KEYLIME_VERIFIER_PORT.
`;

async function main({ checkOnly }: { readonly checkOnly: boolean }): Promise<void> {
  const { config, notes } = loadVerifierConfig({ env: process.env });
  const ca = loadCaConfig({ env: process.env });
  const log = openLog({ name: 'keylime.verifier', level: config.log.level, format: config.log.format });
  logNotes(log, notes);
  logNotes(log, ca.notes);
  if (checkOnly) {
    if (config.tls_dir !== 'generate') await openTlsMaterial(config, ca.config, log);
    await (await openBootPolicies(bootPolicySettings(config))).close();
    return log.info('The settings are good');
  }
  const start = () => startVerifier(config, ca.config, log);
  let verifier: RunningVerifier | undefined = await start();
  const ending = stopSignal(log);
  process.on('SIGHUP', () => void verifier?.certificates.renew());

  while (verifier !== undefined) {
    const error = await Promise.race([verifier.broken, untilAborted(ending)]);
    const last: RunningVerifier = verifier;
    if (error === undefined) {
      await last.close();
      break;
    }
    log.critical('The database connection that made this process the verifier is lost: starting again', { error });
    verifier = undefined;
    await last.close().catch((closing: unknown) => log.error('Closing went wrong', { error: closing }));
    verifier = await startUntilItGoes(start, log, ending);
  }
  log.info('Stopped');
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

await runDaemon({ name: 'keylime_verifier', packageFolder: path.join(import.meta.dirname, '..'), about: ABOUT, main });
