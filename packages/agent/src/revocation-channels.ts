import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { AgentId } from '@keylime/core/agent-id';
import type { AgentConfig } from '@keylime/service/config';
import type { Log } from '@keylime/service/log';
import type { NatsTls } from '@keylime/service/nats-connection';
import { readNatsLogin } from '@keylime/service/nats-login';
import type { BuiltInAction } from './built-in-actions.ts';
import type { NatsSubscription } from './nats-revocations.ts';
import { UNZIPPED } from './payload-files.ts';
import { openRevocations, type Revocations } from './revocations.ts';
import { listens } from './settings.ts';
import { subscribeToRevocations } from './zmq-revocations.ts';

/**
 * What is done about revocations, as the settings say. Certificates come with a payload, or are the operator's; an agent that
 * does not listen gets no payload.
 */
export async function openConfiguredRevocations(
  config: AgentConfig,
  options: { readonly builtIn: readonly BuiltInAction[]; readonly secureFolder: string; readonly log: Log },
): Promise<Revocations> {
  const { builtIn, secureFolder, log } = options;
  const takesPayloads = listens(config);
  const revocations = await openRevocations({
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
    takesPayloads,
    log,
  });
  if (!takesPayloads && subscribesToRevocations(config) && !revocations.canVerify()) {
    log.error(
      "Revocations are subscribed to and none can be verified: put the verifier's certificates (keylime_tenant -c revocationcerts) into a file of revocation_verifier_certs",
    );
  }
  return revocations;
}

/** Whether revocations can come without this agent listening. */
const subscribesToRevocations = (config: AgentConfig): boolean =>
  config.enable_revocation_notifications || config.revocation_nats_url.length > 0;

/** Subscribes to what the settings name: ZeroMQ, NATS, both, or nothing. Connects in the background, again and again. */
export async function openSubscriptions(
  config: AgentConfig,
  options: { readonly agentId: AgentId; readonly revocations: Revocations; readonly log: Log },
): Promise<AsyncDisposable> {
  const { agentId, revocations, log } = options;
  const opened = new AsyncDisposableStack();
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
  return opened;
}

function natsSubscription(config: AgentConfig, agentId: AgentId): NatsSubscription {
  const login = {
    credentialsFile: config.revocation_nats_credentials,
    user: config.revocation_nats_user,
    password: config.revocation_nats_password,
    token: config.revocation_nats_token,
  };
  return {
    agentId,
    stream: config.revocation_nats_stream,
    subject: config.revocation_nats_subject,
    // All files are read anew: a payload may bring some of them.
    connection: async () => ({
      servers: config.revocation_nats_url,
      name: `keylime agent ${agentId}`,
      login: await readNatsLogin(login),
      tls: {
        trustedCas: await Promise.all(config.revocation_nats_ca.map((file) => readFile(file, 'utf8'))),
        ...(await clientCertificate(config)),
      },
    }),
  };
}

/** What a `tls://` server is shown, if the settings name something. */
async function clientCertificate(config: AgentConfig): Promise<Pick<NatsTls, 'certificate'>> {
  const { revocation_nats_client_cert: certFile, revocation_nats_client_key: keyFile } = config;
  if (certFile === undefined || keyFile === undefined) return {};
  const [certPem, keyPem] = [await readFile(certFile, 'utf8'), await readFile(keyFile, 'utf8')];
  return { certificate: { certPem, keyPem, passphrase: config.revocation_nats_client_key_password || undefined } };
}
