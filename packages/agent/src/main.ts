import path from 'node:path';
import { loadAgentConfig } from '@keylime/service/config';
import { runDaemon, stopSignal, untilAborted } from '@keylime/service/daemon';
import { logNotes, openLog } from '@keylime/service/log';
import { processCredentials } from './privileges.ts';
import { checkSettings } from './settings.ts';
import { startAgent } from './start.ts';

const ABOUT = `Attests this machine: registers its TPM at the registrar, and answers the verifier with quotes and measurement lists,
or with mode = "push" sends them to it.
Settings: /etc/keylime/agent.conf and agent.conf.d, or the file that KEYLIME_AGENT_CONFIG names, and environment
variables such as KEYLIME_AGENT_UUID. TCTI names another TPM than /dev/tpmrm0, such as swtpm:host=localhost,port=2321.
`;

/** What is being done may hang in a TPM or a socket; after this time the program ends all the same. */
const STOP_WITHIN_MS = 5_000;

async function main({ checkOnly }: { readonly checkOnly: boolean }): Promise<void> {
  const { config, notes } = loadAgentConfig({ env: process.env });
  const log = openLog({ name: 'keylime.agent', level: config.log.level, format: config.log.format });
  logNotes(log, notes);
  const tcti = process.env.TCTI;
  if (checkOnly) {
    await checkSettings(config, log, tcti);
    return log.info('The settings are good');
  }
  const signal = stopSignal(log);
  signal.addEventListener('abort', () => setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref());
  try {
    const agent = await startAgent(config, log, { tcti, credentials: processCredentials(), signal });
    try {
      await Promise.race([untilAborted(signal), agent.broken]);
    } finally {
      await agent.close();
    }
  } catch (error) {
    if (!signal.aborted) throw error;
  }
  log.info('Stopped');
}

await runDaemon({ name: 'keylime_agent', packageFolder: path.join(import.meta.dirname, '..'), about: ABOUT, main });
