import { parseResourceAnswer, resourceRequest } from '@keylime/api/push-document';
import {
  ProvedSessionAttributes,
  proofAttributes,
  SessionAttributes,
  sessionRequestAttributes,
  TPM_POP,
} from '@keylime/api/push-session';
import { parseBySchema } from '@keylime/api/push-value';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import type { PushAttester } from './attester.ts';
import { PushError } from './push-error.ts';
import type { VerifierAnswer, VerifierRequest } from './verifier-client.ts';

const SESSIONS = '/v3.0/sessions';
/** What may stand in a header, and then some: a UUID, a dot, base64url (spec 05 section 4.4). */
const TOKEN = /^[A-Za-z0-9._~+/=-]{1,4096}$/;

export type PushSession = {
  /** Sends a request as this agent, beginning a session first if there is none, or the one there was has expired. */
  readonly request: (request: Parameters<VerifierRequest>[0]) => Promise<VerifierAnswer>;
};

/**
 * A session with the verifier: the agent proves that its TPM holds the AK, and gets a token. [MUST] The token is nowhere
 * but in memory. @throws PushError from `request`: as `VerifierRequest`, and `not_admitted`, `answer_malformed`.
 */
export function openPushSession(options: {
  readonly agentId: AgentId;
  readonly attester: Pick<PushAttester, 'certifyAk'>;
  readonly send: VerifierRequest;
}): PushSession {
  const { agentId, attester, send } = options;
  let token: string | undefined;

  const request: PushSession['request'] = async (what) => {
    const isFresh = token === undefined;
    token ??= await login(agentId, attester, send);
    const answer = await send({ ...what, token });
    // [compat] 403 too: verifiers differ in what they say about a session that is over.
    if (answer.status !== 401 && answer.status !== 403) return answer;
    token = undefined;
    if (answer.status === 403) return answer;
    if (!isFresh) return request(what);
    throw new PushError('not_admitted', `The verifier refuses the session that it has just granted: ${answer.text}`);
  };
  return { request };
}

/** TPM2_Certify of the AK by itself over the verifier's challenge (sections 4.1 to 4.3); the result is the token. */
async function login(
  agentId: AgentId,
  attester: Pick<PushAttester, 'certifyAk'>,
  send: VerifierRequest,
): Promise<string> {
  const asked = resourceRequest('session', sessionRequestAttributes(agentId));
  const offered = await send({ method: 'POST', path: SESSIONS, json: asked });
  if (offered.status !== 200 && offered.status !== 201) {
    throw new PushError('not_admitted', `The verifier begins no session: ${offered.text}`);
  }
  const { sessionId, challenge } = challengeOf(offered);
  const { attest, signature } = await attester.certifyAk(challenge);
  const proof = resourceRequest('session', proofAttributes(agentId, attest, signature), sessionId);
  const proved = await send({ method: 'PATCH', path: `${SESSIONS}/${sessionId}`, json: proof });
  const attributes = parseBySchema(ProvedSessionAttributes, parseResourceAnswer(proved.body)?.attributes);
  // [compat] A proof that is refused comes with 200 or with 401: only a pass with a token counts.
  const { evaluation, token } = attributes.ok ? attributes.value : {};
  if (proved.status === 200 && evaluation === 'pass' && token !== undefined) {
    if (TOKEN.test(token)) return token;
    throw new PushError('answer_malformed', "The token of the verifier's session is not one that can be sent.");
  }
  throw new PushError(
    'not_admitted',
    `The verifier does not admit agent ${agentId} (${proved.text}): enrol it there with "keylime_tenant -c add --push-model -u ${agentId}". If it is enrolled, the verifier knows another AK of it: enrol it anew.`,
  );
}

function challengeOf({ body }: VerifierAnswer): { readonly sessionId: string; readonly challenge: Buffer } {
  const resource = parseResourceAnswer(body);
  const attributes = parseBySchema(SessionAttributes, resource?.attributes);
  const requested = attributes.ok ? attributes.value.authentication_requested : [];
  const pop = requested.find(({ authentication_type: type }) => type === TPM_POP.authentication_type);
  const challenge = parseBase64(pop?.chosen_parameters.challenge ?? '');
  const sessionId = resource?.id ?? '';
  if (challenge !== undefined && challenge.length > 0 && /^[A-Za-z0-9-]{1,64}$/.test(sessionId)) {
    return { sessionId, challenge };
  }
  throw new PushError(
    'answer_malformed',
    'The verifier began no session that can be proved (tpm_pop): check that verifier_url leads to a Keylime verifier.',
  );
}
