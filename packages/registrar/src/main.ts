import path from 'node:path';
import { loadCaConfig, loadRegistrarConfig } from '@keylime/service/config';
import { runDaemon, stopSignal, untilAborted } from '@keylime/service/daemon';
import { logNotes, openLog } from '@keylime/service/log';

const ABOUT = `Keeps the TPM identities of agents: agents register over HTTP, operators and verifiers read over HTTPS.
Settings: /etc/keylime/registrar.conf and registrar.conf.d, or the file that KEYLIME_REGISTRAR_CONFIG names,
and environment variables such as KEYLIME_REGISTRAR_PORT.
`;

async function main({ checkOnly }: { readonly checkOnly: boolean }): Promise<void> {
  const { config, notes } = loadRegistrarConfig({ env: process.env });
  const log = openLog({ name: 'keylime.registrar', level: config.log.level, format: config.log.format });
  const ca = loadCaConfig({ env: process.env });
  logNotes(log, notes);
  logNotes(log, ca.notes);
  if (checkOnly) {
    const { openServerTls } = await import('./server-tls.ts');
    if (config.tls_dir !== 'generate') await openServerTls(config);
    return log.info('The settings are good');
  }
  const { startRegistrar } = await import('./start.ts'); // late: --help need not wait for all of it
  const registrar = await startRegistrar(config, ca.config, log);
  process.on('SIGHUP', () => void registrar.certificates.renew());
  await untilAborted(stopSignal(log));
  await registrar.close();
  log.info('Stopped');
}

await runDaemon({ name: 'keylime_registrar', packageFolder: path.join(import.meta.dirname, '..'), about: ABOUT, main });
