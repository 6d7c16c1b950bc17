import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { AgentId } from '@keylime/core/agent-id';
import type { AgentConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import { activeBanks, vendorString } from '@keylime/tpm/capabilities';
import type { Tpm } from '@keylime/tpm/tpm';
import { readAgentData, writeAgentData } from './agent-data-file.ts';
import { AgentError } from './agent-error.ts';
import { resolveAgentId } from './agent-name.ts';
import { type BootLog, openBootLog } from './boot-log.ts';
import { deviceIdentitySettings } from './device-identity.ts';
import { positionFile } from './list-position.ts';
import { type MeasurementList, openMeasurementList } from './measurement-list.ts';
import { removeOthers } from './payload-files.ts';
import { becomeUser, type Credentials } from './privileges.ts';
import { registerAgent } from './registration.ts';
import { openSecureMount, secureFolderOf } from './secure-mount.ts';
import type { CheckedSettings } from './settings.ts';
import { type TpmAttester, tpmAttester } from './tpm-attester.ts';
import { agentDataOf, openKeys, readEkCertificates } from './tpm-keys.ts';
import type { TpmSettings } from './tpm-settings.ts';

/** Linux Documentation/admin-guide/sysctl/kernel.rst `random`; another one after each boot. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

/** What an agent of either model has: the machine's name, its TPM with the keys in it, and its logs. */
export type Machine = AsyncDisposable & {
  readonly agentId: AgentId;
  readonly attester: TpmAttester;
  readonly measurementList: MeasurementList;
  readonly bootLog: BootLog;
  /** Another one after each boot. */
  readonly bootId: string;
  /** Where payloads are, if there are any. */
  readonly secureFolder: string;
  /**
   * Registers and activates the AK, trying again as the settings say. @param mtlsCert PEM of the server's certificate, or
   * `disabled`. @throws as `registerAgent`.
   */
  readonly registerAs: (mtlsCert: string) => Promise<void>;
};

/**
 * Opens everything in the order of spec 07 section 8.2: logs, memory for payloads, privileges, TPM and keys.
 * @param options.takesPayloads memory for them is mounted if need be.
 * @throws AgentError, TransportError, TpmError: what failed, and what to do.
 */
export async function openMachine(
  config: AgentConfig,
  { settings, registrarVersions }: CheckedSettings,
  log: Log,
  options: {
    readonly credentials: Credentials | undefined;
    readonly takesPayloads: boolean;
    readonly signal: AbortSignal;
  },
): Promise<Machine> {
  const { credentials, signal } = options;
  await using opened = new AsyncDisposableStack();
  const unreadable = (what: string, path: string) => (cause: unknown) =>
    log.warn(`${what} cannot be opened and is left out of evidence`, { path, reason: cause });
  const bootId = (await readFile(BOOT_ID, 'utf8')).trim();
  const measurementList = openMeasurementList(
    config.ima_ml_path,
    positionFile(path.join(config.keylime_dir, 'measurement_list.json'), bootId, log),
    unreadable('The IMA measurement list', config.ima_ml_path),
  );
  opened.defer(() => measurementList.close());
  const bootLog = openBootLog(
    config.measuredboot_ml_path,
    unreadable('The boot event log', config.measuredboot_ml_path),
  );
  opened.defer(() => bootLog.close());
  const secureFolder = options.takesPayloads
    ? await openSecureMount({
        keylimeDir: config.keylime_dir,
        size: config.secure_size,
        runAs: config.run_as,
        isRoot: credentials?.geteuid() === 0,
        log,
      })
    : await secureFolderOf(config.keylime_dir);
  becomeUser(config.run_as, credentials, log);
  if (options.takesPayloads) await removeOthers(secureFolder);

  const keys = await openKeys(settings, await readAgentData(config.agent_data_path, log), log);
  const agentData = agentDataOf(keys, settings);
  const attester = tpmAttester({ settings, first: keys, kept: agentData, log });
  opened.defer(() => attester.close());
  await checkTpm(keys.tpm, settings, log);
  if (keys.akIsNew) await writeAgentData(config.agent_data_path, agentData);
  log.info(keys.akIsNew ? 'A new AK was made' : 'The AK of the last start is used', { path: config.agent_data_path });

  const { uuid, keylime_dir: keylimeDir } = config;
  const agentId = await resolveAgentId({ uuid, ekHash: keys.ekHash, keylimeDir });
  log.info(`Agent UUID: ${agentId}`);
  const device = config.enable_iak_idevid ? await deviceIdentitySettings(config, settings.hierarchyAuth) : undefined;
  const ekCertificates = await readEkCertificates(keys.tpm, settings, log);
  const registerAs = (mtlsCert: string) => {
    const contact = { ip: config.contact_ip, port: config.contact_port, mtlsCert };
    const { hierarchyAuth } = settings;
    const apiVersions = registrarVersions;
    return registerAgent({
      ...{ agentId, attester, config, apiVersions, ekCertificates, contact, device, hierarchyAuth, log, signal },
    });
  };
  const open = opened.move();
  return {
    ...{ agentId, attester, measurementList, bootLog, bootId, secureFolder, registerAs },
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}

async function checkTpm(tpm: Tpm, settings: TpmSettings, log: Log): Promise<void> {
  const vendor = await vendorString(tpm);
  if (vendor.includes('SW')) log.warn('The TPM is an emulator: it proves nothing about this machine', { vendor });
  const { hash } = settings.ak;
  const banks = await activeBanks(tpm);
  if (banks.has(hash)) return;
  throw new AgentError(
    'pcr_bank_inactive',
    `The PCR bank ${hash} is not active in this TPM (active: ${[...banks.keys()].join(', ')}): set tpm_hash_alg to one that is, or activate it (tpm2_pcrallocate, then reboot).`,
  );
}
