import { createPublicKey } from 'node:crypto';
import { wrapKeyShare } from '@keylime/payload/encryption';
import { isKeyVerifyHmac, keyAuthTag } from '@keylime/payload/key-split';
import { identityNonce } from './agent-api.ts';
import type { Connection } from './connection.ts';
import type { Candidate } from './enrolment.ts';
import type { Delivery } from './payload-plan.ts';
import { withRetries } from './retry.ts';
import { answerOf, answerText, resultsOf, type ServerApi, segment } from './server-api.ts';
import type { Tenant } from './tenant.ts';
import { TenantError } from './tenant-error.ts';

/**
 * Gives U and the payload to the agent (spec 02 section 5.2). [MUST] U is encrypted for the key that the verified identity
 * quote binds to the agent's TPM. An agent that is not ready is asked again.
 * @throws TenantError `payload_refused`, `unreachable`, `untrusted_peer`
 */
export async function handOver(tenant: Tenant, candidate: Candidate, delivery: Delivery): Promise<void> {
  const { output, retries } = tenant;
  const { label } = candidate;
  const { transportKeyPem } = reachable(candidate);
  const body = {
    encrypted_key: wrapKeyShare(createPublicKey(transportKeyPem), delivery.key.u).toString('base64'),
    auth_tag: keyAuthTag(delivery.key.k, candidate.id).toString('hex'),
    ...(delivery.payload === undefined ? {} : { payload: delivery.payload }),
  };
  let problem: unknown;
  const connection = connect(tenant, candidate);
  try {
    const posted = await withRetries(
      retries,
      async () => {
        output.progress(`handing the key share over to ${label}`);
        try {
          const answer = answerOf(await connection.request('POST', `/v${candidate.apiVersion}/keys/ukey`, body));
          if (answer.status !== 503 && answer.status !== 504) return answer;
          problem = new TenantError('unreachable', `${label} is not ready: it answered ${answer.status}`);
        } catch (error) {
          problem = unreachableOrThrow(error);
        }
        return 'again';
      },
      (n, seconds) =>
        output.log.info(
          `${label} took no key share at try ${n}/${retries.attempts}, trying again in ${seconds} seconds...`,
        ),
    );
    if (posted === undefined) throw problem;
    const { value: answer } = posted;
    if (answer.status !== 200) {
      throw new TenantError(
        'payload_refused',
        `Posting of encrypted U to ${label} failed with response code ${answer.status} (${answerText(answer)})`,
      );
    }
  } finally {
    await connection.close();
  }
}

/** An agent refuses a key that another has replaced: nobody shall bring an old payload back with old messages. */
const OTHER_KEY =
  'it proved another key, so the payload of before is in place; a key that was replaced is refused until the agent restarts: make a new one';

/**
 * Waits until the agent proves that it has K, and with it the payload: it must answer a fresh challenge (`--verify`). If it
 * does not, the verifier is told to stop attesting it.
 * @throws TenantError `key_not_derived`, `untrusted_peer`
 */
export async function confirmKey(tenant: Tenant, candidate: Candidate, delivery: Delivery): Promise<void> {
  const { output, retries } = tenant;
  const { label } = candidate;
  let last = 'no answer';
  try {
    const connection = connect(tenant, candidate);
    try {
      const derived = await withRetries(
        retries,
        async () => {
          output.progress(`waiting until ${label} has the payload key`);
          try {
            const challenge = identityNonce();
            const path = `/v${candidate.apiVersion}/keys/verify?challenge=${challenge}`;
            const answer = answerOf(await connection.request('GET', path));
            const hmac = answer.status === 200 ? resultsOf(answer)?.hmac : undefined;
            if (typeof hmac === 'string' && isKeyVerifyHmac(delivery.key.k, challenge, hmac)) return {};
            last = answer.status === 200 ? OTHER_KEY : `it answered ${answer.status} ${answerText(answer)}`;
          } catch (error) {
            last = unreachableOrThrow(error).message;
          }
          return 'again';
        },
        (n, seconds) => {
          const tried = `try ${n}/${retries.attempts}, trying again in ${seconds} seconds... (Ctrl-C to stop)`;
          output.log.info(`Key derivation not yet complete for ${label} at ${tried}`);
        },
      );
      if (derived === undefined) {
        const tries = `after ${retries.attempts} tries: ${last}`;
        throw new TenantError(
          'key_not_derived',
          `Failed key derivation for ${label} ${tries}. See its log and cvstatus`,
        );
      }
    } finally {
      await connection.close();
    }
  } catch (error) {
    await stop(tenant.verifier(), candidate, tenant);
    throw error;
  }
  output.log.info(`Successful key derivation for ${label}`);
}

async function stop(verifier: ServerApi, { id, label }: Candidate, { output }: Tenant): Promise<void> {
  try {
    const answer = await verifier.call('PUT', `/agents/${segment(id)}/stop`);
    if (answer.status === 200) return output.log.info(`${label} stopped`);
    output.log.error(
      `Stop command response: ${answer.status} Unexpected response from ${verifier.label}: ${answerText(answer)}`,
    );
  } catch (error) {
    if (!(error instanceof TenantError)) throw error;
    output.log.error(`${label} could not be stopped: ${error.message}`);
  }
}

function reachable({ agent, label }: Candidate): NonNullable<Candidate['agent']> {
  if (agent !== undefined) return agent;
  throw new TenantError('invalid_argument', `${label} was not asked for its key: it can get no payload`);
}

const connect = (tenant: Tenant, candidate: Candidate): Connection => tenant.connectAgent(reachable(candidate).address);

function unreachableOrThrow(error: unknown): TenantError {
  if (error instanceof TenantError && error.code === 'unreachable') return error;
  throw error;
}
