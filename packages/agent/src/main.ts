import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadAgentConfig } from '@keylime/service/config';
import { logNotes, openLog } from '@keylime/service/log';
import { processCredentials } from './privileges.ts';
import { checkSettings } from './settings.ts';
import { startAgent } from './start.ts';

const HELP = `Usage: keylime_agent [--check]

Attests this machine: registers its TPM at the registrar, and answers the verifier with quotes and measurement lists.
Settings: /etc/keylime/agent.conf and agent.conf.d, or the file that KEYLIME_AGENT_CONFIG names, and environment
variables such as KEYLIME_AGENT_UUID. TCTI names another TPM than /dev/tpmrm0, such as swtpm:host=localhost,port=2321.

  --check    read the settings, say what is wrong, and stop
  --version  print the version
  --help     print this
`;

/** What is being done may hang in a TPM or a socket; after this time the program ends all the same. */
const STOP_WITHIN_MS = 5_000;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { check: { type: 'boolean' }, version: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
  });
  if (values.help) return void process.stdout.write(HELP);
  if (values.version) {
    const text = await readFile(path.join(import.meta.dirname, '..', 'package.json'), 'utf8');
    return void process.stdout.write(`keylime_agent ${(JSON.parse(text) as { version: string }).version}\n`);
  }
  const { config, notes } = loadAgentConfig({ env: process.env });
  const log = openLog({ name: 'keylime.agent', level: config.log.level, format: config.log.format });
  logNotes(log, notes);
  const tcti = process.env.TCTI;
  if (values.check) {
    await checkSettings(config, log, tcti);
    return log.info('The settings are good');
  }
  const stopping = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.on(signal, () => {
      if (stopping.signal.aborted) return;
      log.info('Stopping', { signal });
      stopping.abort();
      setTimeout(() => process.exit(0), STOP_WITHIN_MS).unref();
    });
  }
  try {
    const agent = await startAgent(config, log, { tcti, credentials: processCredentials(), signal: stopping.signal });
    if (!stopping.signal.aborted) {
      await new Promise((resolve) => stopping.signal.addEventListener('abort', resolve, { once: true }));
    }
    await agent.close();
  } catch (error) {
    if (!stopping.signal.aborted) throw error;
  }
  log.info('Stopped');
  process.exit(0);
}

/** What an operator can mend is told in one line, or in the list that the configuration makes. */
function fail(error: unknown): void {
  process.stderr.write(`keylime_agent: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
