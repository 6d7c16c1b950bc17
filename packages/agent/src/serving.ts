import type { KeyObject } from 'node:crypto';
import { type AgentCertificate, ensureAgentCertificate } from '@keylime/pki/agent-certificate';
import { ensureRsaKey, privateKeyPem, publicKeyPem } from '@keylime/pki/private-key';
import type { AgentConfig } from '@keylime/service/config';
import { authority } from '@keylime/service/http-endpoint';
import { type ListenAddress, listenOn } from '@keylime/service/http-listen';
import type { Log } from '@keylime/service/log';
import type { ServerTls } from '@keylime/service/tls';
import { AgentError } from './agent-error.ts';
import { openBootstrap } from './bootstrap.ts';
import { watchCertificate } from './certificate-watch.ts';
import type { Machine } from './machine.ts';
import type { Revocations } from './revocations.ts';
import { buildAgentServer, changeCertificate, readClientCas } from './server.ts';
import type { CheckedSettings } from './settings.ts';

/** What a server needs before it can be registered, and served. */
export type ServerIdentity = {
  readonly payloadKey: KeyObject;
  readonly clientCaPems: readonly string[];
  /** `undefined` without mutual TLS. */
  readonly certificate: AgentCertificate | undefined;
  /** What the registrar is told: the certificate in PEM, or `disabled`. */
  readonly mtlsCert: string;
};

/** @throws AgentError `payload_key_unusable`, `client_ca_unusable`; PkiError */
export async function openServerIdentity(config: AgentConfig, machine: Machine, log: Log): Promise<ServerIdentity> {
  const payloadKey = await ensurePayloadKey(config);
  if (!config.enable_agent_mtls) {
    return { payloadKey, clientCaPems: [], certificate: undefined, mtlsCert: 'disabled' };
  }
  const clientCaPems = await readClientCas(config.trusted_client_ca, log);
  const certificate = await provideCertificate(config, machine, log);
  return { payloadKey, clientCaPems, certificate, mtlsCert: certificate.leafPem };
}

export type RunningServer = AsyncDisposable & {
  readonly address: ListenAddress;
  /** What the registrar is to be told, now that time has passed. */
  readonly mtlsCert: () => string;
};

/**
 * Listens, for quotes, payloads and revocations.
 * @throws ListenError, or what is wrong with the memory for payloads.
 */
export async function serve(
  config: AgentConfig,
  options: {
    readonly machine: Machine;
    readonly identity: ServerIdentity;
    readonly revocations: Revocations;
    readonly servedVersions: CheckedSettings['servedVersions'];
    readonly log: Log;
  },
): Promise<RunningServer> {
  const { machine, identity, revocations, servedVersions, log } = options;
  const { agentId, attester, measurementList, bootLog, secureFolder } = machine;
  const { payloadKey, certificate, clientCaPems } = identity;
  await using opened = new AsyncDisposableStack();
  const installed = () => revocations.payloadChanged();
  const bootstrap = await openBootstrap({ agentId, payloadKey, secureFolder, settings: config, installed, log });
  opened.defer(() => bootstrap.close());

  const serverTls = (one: AgentCertificate): ServerTls => ({
    certPem: one.certificatePem,
    keyPem: privateKeyPem(one.key),
    clientCaPems,
  });
  const payloadKeyPem = publicKeyPem(payloadKey);
  const app = buildAgentServer(
    {
      ...{ agentId, apiVersions: servedVersions, attester, payloadKeyPem, measurementList, bootLog },
      ...{ bootstrap, revocations, log },
    },
    certificate && serverTls(certificate),
  );
  opened.defer(() => app.close());
  let current = certificate;
  if (certificate !== undefined) {
    const renew = async () => {
      const next = await provideCertificate(config, machine, log);
      if (next.leafPem === current?.leafPem) return next.notAfter;
      // First the registrar: there a verifier asks that meets the new certificate.
      await machine.registerAs(next.leafPem);
      changeCertificate(app, serverTls(next));
      current = next;
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
  const open = opened.move();
  return { address, mtlsCert: () => current?.leafPem ?? 'disabled', [Symbol.asyncDispose]: () => open.disposeAsync() };
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

async function provideCertificate(config: AgentConfig, { agentId }: Machine, log: Log): Promise<AgentCertificate> {
  const certificate = await ensureAgentCertificate({
    certificatePath: config.server_cert,
    keyPath: config.server_key,
    agentId,
    contactIp: config.contact_ip,
    password: config.server_key_password,
  });
  const { provision, notAfter } = certificate;
  if (provision === 'renewed') {
    const event =
      "The server's certificate is renewed: a verifier that does not ask the registrar needs the agent enrolled again";
    log.warn(event, { notAfter: notAfter.toISOString() });
  }
  log.debug("The server's certificate", { provision, path: config.server_cert, notAfter: notAfter.toISOString() });
  return certificate;
}
