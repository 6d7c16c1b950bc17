import type { KeyObject } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { AgentId } from '@keylime/core/agent-id';
import { type AgentCertificate, ensureAgentCertificate } from '@keylime/pki/agent-certificate';
import { ensureRsaKey, privateKeyPem, publicKeyPem } from '@keylime/pki/private-key';
import type { AgentConfig } from '@keylime/service/config';
import { authority } from '@keylime/service/http-endpoint';
import { type ListenAddress, listenOn } from '@keylime/service/http-listen';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';
import { activeBanks, vendorString } from '@keylime/tpm/capabilities';
import type { Tpm } from '@keylime/tpm/tpm';
import { readAgentData, writeAgentData } from './agent-data-file.ts';
import { AgentError } from './agent-error.ts';
import { resolveAgentId } from './agent-name.ts';
import { openBootLog } from './boot-log.ts';
import { openBootstrap } from './bootstrap.ts';
import { type BuiltInAction, openBuiltInActions } from './built-in-actions.ts';
import { watchCertificate } from './certificate-watch.ts';
import { deviceIdentitySettings } from './device-identity.ts';
import { positionFile } from './list-position.ts';
import { openMeasurementList } from './measurement-list.ts';
import type { NatsSubscription } from './nats-revocations.ts';
import { removeOthers, UNZIPPED } from './payload-files.ts';
import { becomeUser, type Credentials } from './privileges.ts';
import { registerAgent } from './registration.ts';
import { openRevocations, type Revocations } from './revocations.ts';
import type { AgentServices } from './routes.ts';
import { openSecureMount } from './secure-mount.ts';
import { buildAgentServer, changeCertificate, readClientCas } from './server.ts';
import { checkSettings } from './settings.ts';
import { tpmAttester } from './tpm-attester.ts';
import { agentDataOf, closeKeys, openKeys, readEkCertificates } from './tpm-keys.ts';
import type { TpmSettings } from './tpm-settings.ts';
import { subscribeToRevocations } from './zmq-revocations.ts';

/** Linux Documentation/admin-guide/sysctl/kernel.rst `random`; another one after each boot. */
const BOOT_ID = '/proc/sys/kernel/random/boot_id';

export type RunningAgent = {
  readonly agentId: AgentId;
  /** Where verifier and tenant reach the agent. */
  readonly address: ListenAddress;
  /** Stops serving, and takes the keys out of the TPM. */
  readonly close: () => Promise<void>;
};

/**
 * Starts a pull agent in the order of spec 07 section 8.2: logs, memory for payloads, privileges, TPM and keys,
 * certificate, registration, server.
 * It does not serve before it is registered.
 * @param options.tcti which TPM, as in the variable TCTI. @param options.credentials of this process, to drop privileges.
 * @param options.signal gives up while it is starting.
 * @throws AgentError, TransportError, TpmError, PkiError, ListenError, RetryLater: what failed, and what to do.
 */
export async function startAgent(
  config: AgentConfig,
  log: Log,
  options: {
    readonly tcti?: string | undefined;
    readonly credentials?: Credentials | undefined;
    readonly signal?: AbortSignal;
  } = {},
): Promise<RunningAgent> {
  const { signal = new AbortController().signal } = options;
  await using opened = new AsyncDisposableStack();
  const { settings, servedVersions, registrarVersions } = await checkSettings(config, log, options.tcti);

  const unreadable = (what: string, path: string) => (cause: unknown) =>
    log.warn(`${what} cannot be opened and is left out of evidence`, { path, reason: cause });
  const measurementList = openMeasurementList(
    config.ima_ml_path,
    positionFile(path.join(config.keylime_dir, 'measurement_list.json'), (await readFile(BOOT_ID, 'utf8')).trim(), log),
    unreadable('The IMA measurement list', config.ima_ml_path),
  );
  opened.defer(() => measurementList.close());
  const bootLog = openBootLog(
    config.measuredboot_ml_path,
    unreadable('The boot event log', config.measuredboot_ml_path),
  );
  opened.defer(() => bootLog.close());
  const secureFolder = await openSecureMount({
    keylimeDir: config.keylime_dir,
    size: config.secure_size,
    runAs: config.run_as,
    isRoot: options.credentials?.geteuid() === 0,
    log,
  });
  becomeUser(config.run_as, options.credentials, log);
  await removeOthers(secureFolder);

  const kept = await readAgentData(config.agent_data_path, log);
  const keys = await openKeys(settings, kept, log);
  const agentData = agentDataOf(keys, settings);
  const payloadKey = await beforeServing(async () => {
    await checkTpm(keys.tpm, settings, log);
    if (keys.akIsNew) await writeAgentData(config.agent_data_path, agentData);
    log.info(keys.akIsNew ? 'A new AK was made' : 'The AK of the last start is used', { path: config.agent_data_path });
    return ensurePayloadKey(config);
  }, keys);
  const payloadKeyPem = publicKeyPem(payloadKey);
  const attester = tpmAttester({ settings, first: keys, kept: agentData, payloadKeyPem, log });
  opened.defer(() => attester.close());

  const { uuid, keylime_dir: keylimeDir } = config;
  const agentId = await resolveAgentId({ uuid, ekHash: keys.ekHash, keylimeDir });
  log.info(`Agent UUID: ${agentId}`);
  const builtIn = await openBuiltInActions(config, agentId, log);
  const device = config.enable_iak_idevid ? await deviceIdentitySettings(config, settings.hierarchyAuth) : undefined;
  const ekCertificates = await readEkCertificates(keys.tpm, settings, log);

  const clientCaPems = config.enable_agent_mtls ? await readClientCas(config.trusted_client_ca, log) : [];
  const provide = () => provideCertificate(config, agentId, log);
  const certificate = config.enable_agent_mtls ? await provide() : undefined;
  const serverTls = (one: AgentCertificate): ServerTls => ({
    certPem: one.certificatePem,
    keyPem: privateKeyPem(one.key),
    clientCaPems,
  });
  const registerAs = (mtlsCert: string) => {
    const contact = { ip: config.contact_ip, port: config.contact_port, mtlsCert };
    const { hierarchyAuth } = settings;
    const apiVersions = registrarVersions;
    return registerAgent({
      ...{ agentId, attester, config, apiVersions, ekCertificates, contact, device, hierarchyAuth, log, signal },
    });
  };
  await registerAs(certificate?.certificatePem ?? 'disabled');

  const revocations = await openRevocationsOf(config, { builtIn, secureFolder, log });
  opened.defer(() => revocations.close());
  const installed = () => revocations.payloadChanged();
  const bootstrap = await openBootstrap({ agentId, payloadKey, secureFolder, settings: config, installed, log });
  opened.defer(() => bootstrap.close());

  if (config.enable_revocation_notifications) {
    const { revocation_notification_ip: host, revocation_notification_port: port } = config;
    const subscription = subscribeToRevocations({ host, port, revocations, log });
    opened.defer(() => subscription.close());
  }

  if (config.revocation_nats_url.length > 0) {
    // Loaded only where it is used: the library is large.
    const { consumeRevocations } = await import('./nats-revocations.ts');
    const subscription = consumeRevocations(natsSubscription(config, agentId), revocations, log);
    opened.defer(() => subscription.close());
  }

  const services: AgentServices = {
    ...{ agentId, apiVersions: servedVersions, attester, payloadKeyPem, measurementList, bootLog },
    ...{ bootstrap, revocations, log },
  };
  const app = buildAgentServer(services, certificate && serverTls(certificate));
  opened.defer(() => app.close());
  if (certificate !== undefined) {
    const renew = async () => {
      const next = await provide();
      changeCertificate(app, serverTls(next));
      await registerAs(next.certificatePem);
      return next.notAfter;
    };
    const watch = watchCertificate({ notAfter: certificate.notAfter, renew, log });
    opened.defer(() => watch.close());
  }
  const address = await listenOn(app, { host: config.ip, port: config.port });
  const scheme = certificate === undefined ? 'http' : 'https';
  log.info(`Listening on ${scheme}://${authority(address.host, address.port)}`, {
    apiVersions: servedVersions.join(' '),
  });
  const running = opened.move();
  return { agentId, address, close: () => running.disposeAsync() };
}

function openRevocationsOf(
  config: AgentConfig,
  {
    builtIn,
    secureFolder,
    log,
  }: { readonly builtIn: readonly BuiltInAction[]; readonly secureFolder: string; readonly log: Log },
): Promise<Revocations> {
  return openRevocations({
    certificatePaths: [config.revocation_cert, ...config.revocation_verifier_certs],
    actions: {
      names: config.revocation_actions,
      installedFolder: config.revocation_actions_dir,
      payloadFolder: path.join(secureFolder, UNZIPPED),
      allowPayloadActions: config.allow_payload_revocation_actions,
      workFolder: config.keylime_dir,
      timeoutSeconds: config.revocation_action_timeout,
    },
    builtIn,
    log,
  });
}

function natsSubscription(config: AgentConfig, agentId: AgentId): NatsSubscription {
  return {
    agentId,
    stream: config.revocation_nats_stream,
    subject: config.revocation_nats_subject,
    connection: async () => ({
      servers: config.revocation_nats_url,
      name: `keylime agent ${agentId}`,
      credentials: config.revocation_nats_credentials && (await readFile(config.revocation_nats_credentials, 'utf8')),
      tls: { trustedCas: await Promise.all(config.revocation_nats_ca.map((file) => readFile(file, 'utf8'))) },
    }),
  };
}

/** Runs `use`; if it fails the keys do not stay in the TPM. */
async function beforeServing<T>(use: () => Promise<T>, keys: Parameters<typeof closeKeys>[0]): Promise<T> {
  try {
    return await use();
  } catch (cause) {
    await closeKeys(keys);
    throw cause;
  }
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

async function ensurePayloadKey(config: AgentConfig): Promise<KeyObject> {
  const key = await ensureRsaKey(config.payload_key, 2048, config.payload_key_password);
  const bits = key.asymmetricKeyDetails?.modulusLength;
  if (bits === 2048) return key;
  throw new AgentError(
    'payload_key_unusable',
    `payload_key: ${config.payload_key} has ${bits} bits, it must have 2048: move it away.`,
  );
}

async function provideCertificate(config: AgentConfig, agentId: AgentId, log: Log): Promise<AgentCertificate> {
  const certificate = await ensureAgentCertificate({
    certificatePath: config.server_cert,
    keyPath: config.server_key,
    agentId,
    contactIp: config.contact_ip,
    password: config.server_key_password,
  });
  const { provision, notAfter } = certificate;
  if (provision === 'renewed') {
    log.warn("The server's certificate was renewed: enrol the agent again, the verifier pins the old one", {
      notAfter: notAfter.toISOString(),
    });
  }
  log.debug("The server's certificate", { provision, path: config.server_cert, notAfter: notAfter.toISOString() });
  return certificate;
}
