import { randomInt } from 'node:crypto';
import { pythonRepr } from '@keylime/api/python-json';
import { AGENT_API_VERSIONS, API_VERSIONS, CURRENT_API_VERSION, negotiateApiVersion } from '@keylime/api/versions';
import { isJsonObject } from '@keylime/core/json';
import type { Connection } from './connection.ts';
import type { IdentityEvidence } from './identity-quote.ts';
import { excerpt, type Output } from './output.ts';
import { answerOf, answerText, resultsOf } from './server-api.ts';
import { TenantError } from './tenant-error.ts';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789abcdefghijklmnopqrstuvwxyz';

/** 20 random letters and digits, which is what agents take as a nonce (spec 02 section 3.1): 119 bits. */
export const identityNonce = (): string =>
  Array.from({ length: 20 }, () => ALPHABET[randomInt(ALPHABET.length)]).join('');

/** A version that an operator named. @throws TenantError */
export function requestedAgentVersion(text: string | undefined): string | undefined {
  if (text === undefined || API_VERSIONS.some((version) => version === text)) return text;
  throw new TenantError(
    'unsupported',
    `API version "${excerpt(text, 20)}" of agents is not supported by this version yet: it speaks ${API_VERSIONS.join(', ')}`,
  );
}

/**
 * The newest version of the API that the agent and this program speak (spec 01 section 1.4). An agent that does not say is
 * spoken to in the current one.
 * @throws TenantError `no_common_version`; what `connection` throws
 */
export async function negotiateAgentVersion(connection: Connection, label: string, { log }: Output): Promise<string> {
  const answer = answerOf(await connection.request('GET', '/version'));
  if (isBusy(answer.status)) throw unreachable(label, answer.status);
  const results = answer.status === 200 ? resultsOf(answer) : undefined;
  const list = results?.supported_versions ?? results?.supported_version;
  const offered = (Array.isArray(list) ? list : [list]).filter((one) => typeof one === 'string');
  if (offered.length === 0) {
    log.warn(`${label} did not say which API versions it speaks (${answer.status}): ${CURRENT_API_VERSION} is tried`);
    return CURRENT_API_VERSION;
  }
  const common = negotiateApiVersion(offered);
  if (common !== undefined) return common;
  const theirs = excerpt(offered.join(', '), 100);
  throw new TenantError(
    'no_common_version',
    `${label} has no compatible API version: it speaks ${theirs}, this tenant ${AGENT_API_VERSIONS.join(', ')}`,
  );
}

/**
 * Asks the agent for an identity quote over `nonce`. [compat] The whole answer is printed, as a Python dict.
 * @throws TenantError `unexpected_answer`; `unreachable` if the agent is busy (503, 504); what `connection` throws
 */
export async function requestIdentityQuote(
  connection: Connection,
  request: { readonly version: string; readonly nonce: string; readonly label: string },
  { print }: Output,
): Promise<IdentityEvidence> {
  const answer = answerOf(
    await connection.request('GET', `/v${request.version}/quotes/identity?nonce=${request.nonce}`),
  );
  if (isBusy(answer.status)) throw unreachable(request.label, answer.status);
  if (answer.json !== undefined) print(pythonRepr(answer.json));
  const results = resultsOf(answer);
  if (answer.status !== 200 || !isJsonObject(results)) {
    throw new TenantError(
      'unexpected_answer',
      `TPM Quote command response: ${answer.status} Unexpected response from ${request.label}: ${answerText(answer)}`,
    );
  }
  const text = (field: string): string => {
    const value = results[field];
    if (typeof value === 'string' && value !== '') return value;
    throw new TenantError('unexpected_answer', `The identity quote of ${request.label} came without ${field}`);
  };
  return {
    quote: text('quote'),
    hash_alg: text('hash_alg'),
    enc_alg: text('enc_alg'),
    sign_alg: text('sign_alg'),
    pubkey: text('pubkey'),
  };
}

const isBusy = (status: number): boolean => status === 503 || status === 504;

const unreachable = (label: string, status: number): TenantError =>
  new TenantError('unreachable', `${label} is not ready: it answered ${status}`);
