import type { AgentId } from '@keylime/core/agent-id';
import type { AgentConfig } from '@keylime/service/config';
import type { ListenAddress } from '@keylime/service/http-listen';
import type { Log } from '@keylime/service/log';
import { openBuiltInActions } from './built-in-actions.ts';
import { openMachine } from './machine.ts';
import type { Credentials } from './privileges.ts';
import { openConfiguredRevocations, openSubscriptions } from './revocation-channels.ts';
import { openServerIdentity, serve } from './serving.ts';
import { checkSettings } from './settings.ts';

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
  const { credentials, signal = new AbortController().signal } = options;
  await using opened = new AsyncDisposableStack();
  const checked = await checkSettings(config, log, options.tcti);
  const machine = opened.use(await openMachine(config, checked, log, { credentials, signal, takesPayloads: true }));
  const { agentId, secureFolder } = machine;
  const builtIn = await openBuiltInActions(config, agentId, log);
  const identity = await openServerIdentity(config, machine, log);
  await machine.registerAs(identity.mtlsCert);

  const revocations = await openConfiguredRevocations(config, { builtIn, secureFolder, log });
  opened.defer(() => revocations.close());
  opened.use(await openSubscriptions(config, { agentId, revocations, log }));
  const { servedVersions } = checked;
  const server = opened.use(await serve(config, { machine, identity, revocations, servedVersions, log }));
  const running = opened.move();
  return { agentId, address: server.address, close: () => running.disposeAsync() };
}
