import { setTimeout as sleep } from 'node:timers/promises';
import type { AgentId } from '@keylime/core/agent-id';
import type { AgentConfig } from '@keylime/service/config';
import { openServerClient } from '@keylime/service/http-client';
import { authority } from '@keylime/service/http-endpoint';
import type { Log } from '@keylime/service/log';
import { flush } from '@keylime/tpm/object';
import { TpmError } from '@keylime/tpm/response-code';
import { AgentError } from './agent-error.ts';
import { type DeviceIdentity, type DeviceIdentitySettings, openDeviceIdentity } from './device-identity.ts';
import { readFileOf } from './readable-file.ts';
import { type RegistrarRequest, register } from './registrar.ts';
import { activationTag, type Contact, registrationBody } from './registration-body.ts';
import { type RetryLater, withRetries } from './retry.ts';
import type { IdentityKeys, TpmAttester } from './tpm-attester.ts';

const TIMEOUT_MS = 20_000;
/** A registrar's answers are a few KB. */
const MAX_RESPONSE_BYTES = 1024 * 1024;

/**
 * Registers and activates the agent, trying again as the options `exponential_backoff_*` say.
 * @throws AgentError `registration_refused`, `api_version_unsupported`, `certificate_mismatch`; RetryLater after the last
 * retry; an `AbortError` if `signal` stops it.
 */
export async function registerAgent(options: {
  readonly agentId: AgentId;
  readonly attester: TpmAttester;
  readonly config: AgentConfig;
  readonly apiVersions: readonly string[];
  readonly ekCertificates: string | undefined;
  readonly contact: Contact;
  readonly device: DeviceIdentitySettings | undefined;
  readonly hierarchyAuth: Buffer;
  readonly log: Log;
  readonly signal: AbortSignal;
}): Promise<void> {
  const { agentId, attester, config, apiVersions, device: deviceSettings, hierarchyAuth, log, signal } = options;
  const { baseUrl, request, close } = await openRegistrar(config);
  const backoff = {
    initialDelayMs: config.exponential_backoff_initial_delay,
    maxRetries: config.exponential_backoff_max_retries,
    maxDelayMs: config.exponential_backoff_max_delay,
  };
  const hooks = {
    sleep: (delayMs: number) => sleep(delayMs, undefined, { signal }),
    onRetry: (failure: RetryLater, delayMs: number) =>
      log.warn('Registration failed and is tried again', { registrar: baseUrl, delayMs, reason: failure }),
  };
  const withDevice = async (keys: IdentityKeys, use: (device: DeviceIdentity | undefined) => Promise<void>) => {
    if (deviceSettings === undefined) return use(undefined);
    const device = await openDeviceIdentity(keys.tpm, deviceSettings);
    try {
      await use(device);
    } finally {
      await flush(keys.tpm, device.iak).catch((cause: unknown) =>
        log.debug('The IAK was not flushed', { reason: cause }),
      );
    }
  };
  try {
    await attester.withIdentityKeys((keys) =>
      withDevice(keys, async (device) => {
        const registration = {
          agentId,
          apiVersions,
          body: (qualifying: 'digest' | 'id') => registrationBody({ ...options, keys, device, qualifying }),
          answer: async (blob: Buffer) => {
            log.info(`SUCCESS: Agent ${agentId} registered`, { registrar: baseUrl });
            return activationTag({ agentId, keys, hierarchyAuth, blob }).catch(refuseForeignChallenge);
          },
        };
        const { apiVersion } = await withRetries(() => register(request, registration), backoff, hooks);
        log.info(`SUCCESS: Agent ${agentId} activated`, { registrar: baseUrl, apiVersion });
      }),
    );
  } finally {
    await close();
  }
}

/** A challenge that this TPM cannot open was made for other keys: by a registrar that is none, or on the way. */
function refuseForeignChallenge(cause: unknown): never {
  if (!(cause instanceof TpmError) || cause.responseCode.about?.kind !== 'parameter') throw cause;
  const problem =
    "The registrar's challenge is not for this TPM: its answer was made for other keys, or changed on the way.";
  throw new AgentError('registration_refused', problem, { cause });
}

async function openRegistrar(config: AgentConfig) {
  const isTls = config.registrar_tls_enabled;
  const where = authority(config.registrar_ip, isTls ? config.registrar_tls_port : config.registrar_port);
  const baseUrl = `${isTls ? 'https' : 'http'}://${where}`;
  const client = openServerClient({
    baseUrl,
    ...(isTls && { caPems: [await readFileOf('registrar_tls_ca_cert', config.registrar_tls_ca_cert)] }),
    timeoutMs: TIMEOUT_MS,
    maxResponseBytes: MAX_RESPONSE_BYTES,
  });
  const request: RegistrarRequest = async (what) => {
    const { code, headers, body } = await client.request(what);
    return { status: code, body: body.toString('utf8'), retryAfter: headers['retry-after'] };
  };
  return { baseUrl, request, close: client.close };
}
