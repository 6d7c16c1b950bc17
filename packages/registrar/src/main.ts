import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadCaConfig, loadRegistrarConfig } from '@keylime/service/config';
import { logNotes, openLog } from '@keylime/service/log';

const HELP = `Usage: keylime_registrar [--check]

Keeps the TPM identities of agents: agents register over HTTP, operators and verifiers read over HTTPS.
Settings: /etc/keylime/registrar.conf and registrar.conf.d, or the file that KEYLIME_REGISTRAR_CONFIG names,
and environment variables such as KEYLIME_REGISTRAR_PORT.

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
    return void process.stdout.write(`keylime_registrar ${(JSON.parse(text) as { version: string }).version}\n`);
  }
  const { config, notes } = loadRegistrarConfig({ env: process.env });
  const log = openLog({ name: 'keylime.registrar', level: config.log.level, format: config.log.format });
  const ca = loadCaConfig({ env: process.env });
  logNotes(log, notes);
  logNotes(log, ca.notes);
  if (values.check) {
    const { openServerTls } = await import('./server-tls.ts');
    if (config.tls_dir !== 'generate') await openServerTls(config);
    return log.info('The settings are good');
  }
  const { startRegistrar } = await import('./start.ts'); // late: --help need not wait for all of it
  const registrar = await startRegistrar(config, ca.config, log);
  let stopping = false;
  const stop = async (signal: string) => {
    if (stopping) return;
    stopping = true;
    log.info('Stopping', { signal });
    await registrar.close();
    log.info('Stopped');
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => void stop(signal).catch(fail));
  process.on('SIGHUP', () => void registrar.certificates.renew());
}

/** What an operator can mend is told in one line, or in the list that the configuration makes. */
function fail(error: unknown): void {
  process.stderr.write(`keylime_registrar: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
}

main().catch(fail);
