import { stat } from 'node:fs/promises';
import path from 'node:path';
import { AGENT_API_VERSIONS, type AgentApiVersion, API_VERSIONS, type ApiVersion } from '@keylime/api/versions';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { isActionName } from '@keylime/payload/action-list';
import type { AgentConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import { checkPayloadSettings } from './payload.ts';
import { readCertificatesOf } from './readable-file.ts';
import { type TpmSettings, tpmSettings } from './tpm-settings.ts';

/** Whether this agent has a server. */
export const listens = (config: AgentConfig): boolean => config.mode === 'pull' || config.push_listen;

export type CheckedSettings = {
  readonly settings: TpmSettings;
  readonly servedVersions: NonEmpty<AgentApiVersion>;
  readonly registrarVersions: NonEmpty<ApiVersion>;
};

/** Everything that can be told from the configuration alone, so that `--check` finds it too. @throws AgentError */
export async function checkSettings(config: AgentConfig, log: Log, tcti: string | undefined): Promise<CheckedSettings> {
  const folder = await stat(config.keylime_dir).catch(() => undefined);
  if (!folder?.isDirectory()) {
    throw new AgentError(
      'file_unreadable',
      `keylime_dir: there is no folder ${config.keylime_dir}. Create it for the user of run_as (mode 0700), or set keylime_dir or KEYLIME_DIR.`,
    );
  }
  if (listens(config) && !config.enable_agent_mtls) {
    log.warn('enable_agent_mtls is off: evidence travels in clear, and whoever reaches the port may ask for it');
  }
  if (config.mode === 'push') {
    await readCertificatesOf('verifier_tls_ca_cert', config.verifier_tls_ca_cert);
    if (config.tls_accept_invalid_hostnames) {
      log.warn('tls_accept_invalid_hostnames is on: whoever has a certificate of the CA can stand in for the verifier');
    }
  }
  const list = path.basename(config.ima_ml_path);
  if (list.startsWith('binary_')) {
    throw new AgentError(
      'file_unreadable',
      `ima_ml_path: verifiers take the list in ASCII, ${list} is binary. Name ${list.replace('binary_', 'ascii_')}, which has the same entries.`,
    );
  }
  checkPayloadSettings(config);
  const odd = config.revocation_actions.find((name) => !isActionName(name));
  if (odd !== undefined) {
    throw new AgentError('payload_settings', `revocation_actions: "${odd}" is not the name of a file without folders.`);
  }
  return {
    settings: tpmSettings(config, tcti),
    servedVersions: chooseVersions('api_versions', config.api_versions, AGENT_API_VERSIONS, log),
    registrarVersions: chooseVersions(
      'registrar_api_versions',
      config.registrar_api_versions,
      API_VERSIONS.slice(1),
      log,
    ),
  };
}

/** Versions of an option, oldest first; ones that are not known are reported, and if none is left all are taken. */
function chooseVersions<T extends string>(
  option: string,
  wanted: 'default' | 'latest' | readonly string[],
  known: readonly T[],
  log: Log,
): NonEmpty<T> {
  const chosen =
    wanted === 'default' ? known : wanted === 'latest' ? known.slice(-1) : known.filter((one) => wanted.includes(one));
  const odd = typeof wanted === 'string' ? [] : wanted.filter((one) => !known.some((version) => version === one));
  if (odd.length > 0)
    log.warn(`${option}: versions that this agent does not speak are left out`, { versions: odd.join(' ') });
  if (isNonEmpty(chosen)) return chosen;
  log.warn(`${option}: no version is left, all are used`);
  if (isNonEmpty(known)) return known;
  throw new RangeError('there is no API version');
}
