import type { AgentRegistration } from '@keylime/api/agent/registration';
import { parseEnvelope } from '@keylime/api/envelope';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { AgentError } from './agent-error.ts';
import { parseRetryAfter, RetryLater } from './retry.ts';

/** One answer of the registrar. */
export type RegistrarAnswer = {
  readonly status: number;
  readonly body: string;
  readonly retryAfter?: string | undefined;
};

/** Sends a request to the registrar. @throws an `Error` if no answer came. */
export type RegistrarRequest = (request: {
  readonly method: 'GET' | 'POST' | 'PUT';
  readonly path: string;
  readonly json?: unknown;
}) => Promise<RegistrarAnswer>;

export type Registration = {
  readonly agentId: AgentId;
  /** Versions to speak with the registrar, oldest first. */
  readonly apiVersions: readonly string[];
  /**
   * The body of the registration. The IAK certifies SHA-256 of the agent id for registrars of API 2.6 (`qualifying` is
   * `digest`) and the id itself for older ones.
   */
  readonly body: (qualifying: 'digest' | 'id') => Promise<AgentRegistration>;
  /** Proof that the TPM could open the challenge: the tag for the decoded `blob`. */
  readonly answer: (blob: Buffer) => Promise<string>;
};

/**
 * Registers the agent and activates it, once (spec 02 section 2.1).
 * @throws RetryLater if the registrar cannot be reached, is busy, or lost the challenge; AgentError
 * `registration_refused` if it refuses this TPM or this data, `api_version_unsupported` if it speaks no version of ours.
 */
export async function register(request: RegistrarRequest, registration: Registration): Promise<{ apiVersion: string }> {
  const { agentId, body, answer } = registration;
  const { candidates, known } = await negotiate(request, registration.apiVersions);
  const json = await body(known.includes('2.6') ? 'digest' : 'id');
  for (const [index, apiVersion] of candidates.entries()) {
    const path = `/v${apiVersion}/agents/${agentId}`;
    const posted = await send(request, { method: 'POST', path, json });
    if (posted.status === 403) throw refused(agentId, posted);
    if (!isSuccess(posted)) {
      if (index < candidates.length - 1) continue;
      throw new AgentError('registration_refused', `The registrar refused the registration: ${describe(posted)}`);
    }
    const tag = await answer(challengeOf(posted));
    const activated = await send(request, { method: 'PUT', path, json: { auth_tag: tag } });
    if (isSuccess(activated) && isJsonObject(resultsOf(activated))) return { apiVersion };
    // Another registration of this agent may have replaced the challenge between the two requests.
    throw new RetryLater(`The registrar did not accept the activation: ${describe(activated)}`);
  }
  throw new AgentError('api_version_unsupported', 'There is no API version to speak with the registrar.');
}

/**
 * Versions to try, best first, and those that the registrar says it knows. A registrar that has no GET /version is tried
 * with every version from the newest on (spec 01 section 1.4).
 */
async function negotiate(
  request: RegistrarRequest,
  own: readonly string[],
): Promise<{ readonly candidates: readonly string[]; readonly known: readonly string[] }> {
  const reply = await send(request, { method: 'GET', path: '/version' });
  const results = isSuccess(reply) ? resultsOf(reply) : undefined;
  const newestFirst = own.toReversed();
  if (!isJsonObject(results)) return { candidates: newestFirst, known: [] };
  const current = results.current_version;
  const supported = Array.isArray(results.supported_versions) ? results.supported_versions : [];
  const known = supported.filter((version) => typeof version === 'string');
  if (typeof current === 'string' && own.includes(current)) return { candidates: [current], known };
  const common = newestFirst.find((version) => known.includes(version));
  if (common !== undefined) return { candidates: [common], known };
  throw new AgentError(
    'api_version_unsupported',
    `The registrar speaks API versions ${known.join(', ') || String(current)}, this agent is set to ${own.join(', ')}: change registrar_api_versions.`,
  );
}

/** Sends; what may be well in a while becomes `RetryLater`. */
async function send(request: RegistrarRequest, what: Parameters<RegistrarRequest>[0]): Promise<RegistrarAnswer> {
  let answer: RegistrarAnswer;
  try {
    answer = await request(what);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new RetryLater(`The registrar cannot be reached: ${why}`, { cause });
  }
  const { status } = answer;
  if (status >= 500 || status === 408 || status === 429) {
    const afterMs = parseRetryAfter(answer.retryAfter, Date.now());
    throw new RetryLater(`The registrar cannot answer now: ${describe(answer)}`, { afterMs });
  }
  return answer;
}

const isSuccess = ({ status }: RegistrarAnswer): boolean => status >= 200 && status < 300;

const envelopeOf = (answer: RegistrarAnswer) => parseEnvelope(parseJson(answer.body));
const resultsOf = (answer: RegistrarAnswer): unknown => envelopeOf(answer)?.results;

function challengeOf(answer: RegistrarAnswer): Buffer {
  const results = resultsOf(answer);
  const blob = isJsonObject(results) && typeof results.blob === 'string' ? parseBase64(results.blob) : undefined;
  if (blob !== undefined) return blob;
  throw new AgentError(
    'registration_refused',
    'The answer of the registrar holds no challenge ("blob"): check that registrar_ip and registrar_port lead to a Keylime registrar.',
  );
}

/** What the registrar said, cut short. */
const describe = (answer: RegistrarAnswer): string =>
  `${answer.status} ${(envelopeOf(answer)?.status ?? '').slice(0, 300)}`.trim();

/** 403: the registrar keeps another TPM identity under this agent id, and nothing will change that but its operator. */
const refused = (agentId: AgentId, answer: RegistrarAnswer): AgentError =>
  new AgentError(
    'registration_refused',
    [
      `The registrar refuses to register agent ${agentId}: ${describe(answer)}.`,
      'It has another TPM identity (EK, EK certificate or AK) under this agent id. Either the id belongs to another',
      'machine (change the option uuid), or the AK of this one was made anew because agent_data.json was lost, the TPM was',
      `cleared, or tpm_hash_alg, tpm_signing_alg or tpm_encryption_alg changed: then run "keylime_tenant -c regdelete -u ${agentId}" and`,
      'start the agent again. If neither is the case, somebody may be trying to take the place of this machine.',
    ].join(' '),
  );
