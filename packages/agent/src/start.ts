import path from 'node:path';
import type { AgentId } from '@keylime/core/agent-id';
import type { AgentConfig } from '@keylime/service/config';
import type { ListenAddress } from '@keylime/service/http-listen';
import type { Log } from '@keylime/service/log';
import { bootTime } from './boot-time.ts';
import { openBuiltInActions } from './built-in-actions.ts';
import { type Machine, openMachine } from './machine.ts';
import type { Credentials } from './privileges.ts';
import { attestOnce } from './push-attestation.ts';
import type { OfferSettings } from './push-capabilities.ts';
import { openPushSession } from './push-session.ts';
import { push } from './pushing.ts';
import { openConfiguredRevocations, openSubscriptions } from './revocation-channels.ts';
import { openServerIdentity, serve } from './serving.ts';
import { checkSettings, listens } from './settings.ts';
import { openVerifierClient } from './verifier-client.ts';

export type RunningAgent = {
  readonly agentId: AgentId;
  /** Where verifier and tenant reach the agent; `undefined` if it does not listen. */
  readonly address: ListenAddress | undefined;
  /** Rejects when the agent cannot go on; never resolves. */
  readonly broken: Promise<never>;
  /** Stops serving and pushing, and takes the keys out of the TPM. */
  readonly close: () => Promise<void>;
};

/**
 * Starts an agent in the order of spec 07 section 8.2: logs, memory for payloads, privileges, TPM and keys, certificate,
 * registration, server. A pull agent does not serve before it is registered; a push agent registers when it is running, and
 * then attests.
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
  const { credentials } = options;
  const stopping = new AbortController();
  const signal = AbortSignal.any([stopping.signal, ...(options.signal ? [options.signal] : [])]);
  await using opened = new AsyncDisposableStack();
  const checked = await checkSettings(config, log, options.tcti);
  const takesPayloads = listens(config);
  const machine = opened.use(await openMachine(config, checked, log, { credentials, signal, takesPayloads }));
  const { agentId, secureFolder } = machine;
  const builtIn = await openBuiltInActions(config, agentId, log);
  const identity = listens(config) ? await openServerIdentity(config, machine, log) : undefined;
  if (config.mode === 'pull') await machine.registerAs(identity?.mtlsCert ?? 'disabled');

  const revocations = await openConfiguredRevocations(config, { builtIn, secureFolder, log });
  opened.defer(() => revocations.close());
  opened.use(await openSubscriptions(config, { agentId, revocations, log }));
  const { servedVersions } = checked;
  const server = identity && opened.use(await serve(config, { machine, identity, revocations, servedVersions, log }));

  let broken = new Promise<never>(() => {});
  if (config.mode === 'push') {
    const client = openVerifierClient(config, signal);
    opened.defer(() => client.close());
    const session = openPushSession({ agentId, attester: machine.attester, send: client.request });
    const settings = await offerSettings(config, machine, log);
    const verifierUrl = config.verifier_url;
    const register = () => machine.registerAs(server?.mtlsCert() ?? 'disabled');
    log.info(`Attesting to ${verifierUrl}`);
    broken = push({
      steps: { register, attest: () => attestOnce({ agentId, session, sources: machine, settings, verifierUrl }) },
      intervalSeconds: config.attestation_interval_seconds,
      backoff: {
        initialDelayMs: config.exponential_backoff_initial_delay,
        maxDelayMs: config.exponential_backoff_max_delay,
      },
      ...{ log, signal },
    });
    const ended = broken.catch(() => undefined);
    opened.defer(() => ended);
  }
  const running = opened.move();
  const close = () => {
    stopping.abort();
    return running.disposeAsync();
  };
  return { agentId, address: server?.address, broken, close };
}

async function offerSettings(config: AgentConfig, { bootId }: Machine, log: Log): Promise<OfferSettings> {
  return {
    serverIdentifier: config.certification_keys_server_identifier,
    uefiLogVersion: config.uefi_logs_evidence_version,
    bootTime: await bootTime(path.join(config.keylime_dir, 'boot_time.json'), bootId, log),
  };
}
