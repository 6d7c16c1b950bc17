import { documentOf, MALFORMED_REQUEST, parseResourceRequest, resource } from '@keylime/api/push-document';
import { ProofAttributes, SessionRequestAttributes, sessionAttributes, TPM_POP } from '@keylime/api/push-session';
import { parseBySchema, pushTime } from '@keylime/api/push-value';
import type { Json } from '@keylime/core/json';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import { addressKey } from '@keylime/service/rate-limit';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Proof } from './proof.ts';
import { answerInJsonApi } from './refusal.ts';
import type { PendingSession } from './session-store.ts';
import type { Proved, Sessions } from './sessions.ts';

/** Whoever begins a session has no token, or one that is no good any more. */
const config = (name: string) => ({ ...action(name), ignoresToken: true });

/** Bodies of strangers: the longest that is meant has a few thousand bytes. */
const bodyLimit = 65_536;

/** Sessions (05 section 4 of the reference). [compat] 200 for what was made, and for most proofs that were refused. */
export const sessionRoutes =
  (sessions: Sessions): VersionRoutes =>
  (app, version) => {
    answerInJsonApi(app);
    // [MUST] Before the body is read: whoever sends too much is not listened to.
    const admit = (what: 'begin' | 'prove') => async (request: FastifyRequest) => {
      const wait = sessions.admit(what, addressOf(request));
      if (wait !== undefined) throw tooMany(wait);
    };

    const begin = { config: config('create_session'), bodyLimit, onRequest: admit('begin') };
    app.post('/sessions', begin, async (request, reply) => {
      const attributes = attributesOf(request);
      const agentId = agentIdIn(attributes);
      const parsed = parseBySchema(SessionRequestAttributes, attributes);
      const supported = parsed.ok ? parsed.value.authentication_supported : [];
      if (!supported.some((one) => one.authentication_type === TPM_POP.authentication_type)) {
        throw new HttpProblem(400, 'authentication_supported must include tpm_pop authentication type');
      }
      const begun = await sessions.begin(agentId);
      if (begun.kind === 'too_many') throw tooMany(begun.retryAfterSeconds);
      const { session } = begun;
      return reply
        .type('application/json')
        .send(
          documentOf(
            resource(
              'session',
              session.id,
              sessionAttributes(agentId, session.challenge, session),
              `/v${version}/sessions`,
            ),
          ),
        );
    });

    app.patch<{ Params: { readonly sessionId: string } }>(
      '/sessions/:sessionId',
      { config: config('extend_session'), bodyLimit, onRequest: admit('prove') },
      async (request, reply) => {
        const attributes = attributesOf(request);
        const agentId = agentIdIn(attributes);
        const parsed = parseBySchema(ProofAttributes, attributes);
        const [first] = parsed.ok ? parsed.value.authentication_provided : [];
        const proof = first?.authentication_type === TPM_POP.authentication_type ? first.data : undefined;
        const proved = await sessions.prove(request.params.sessionId, agentId, proof, addressOf(request));
        return answerProof(reply, proved, proof);
      },
    );
  };

function answerProof(reply: FastifyReply, proved: Proved, proof: Proof | undefined): FastifyReply {
  switch (proved.kind) {
    case 'unknown':
      throw new HttpProblem(404, 'Session not found');
    case 'other_agent':
      throw new HttpProblem(400, 'Agent ID mismatch');
    case 'already_active':
      throw new HttpProblem(409, 'The session is active already: its challenge was answered');
    case 'too_many':
      throw tooMany(proved.retryAfterSeconds, ' for this agent');
    case 'expired':
    case 'not_enrolled':
    case 'wrong': {
      const { session, atMs } = proved;
      const attributes = { evaluation: 'fail', ...(proved.kind === 'expired' && { token_expires_at: null }) };
      return sendProved(reply.code(proved.kind === 'wrong' ? 401 : 200), session, atMs, proof, attributes);
    }
    case 'proved': {
      const { session, atMs, token, tokenExpiresAtMs } = proved;
      const attributes = { evaluation: 'pass', token, token_expires_at: pushTime(tokenExpiresAtMs) };
      return sendProved(reply, session, atMs, proof, attributes);
    }
  }
}

/** [compat] Existing agents need all of `authentication`, whatever the answer is. */
function sendProved(
  reply: FastifyReply,
  { id, agentId, challenge, createdAtMs, challengeExpiresAtMs }: PendingSession,
  receivedAtMs: number,
  proof: Proof | undefined,
  outcome: object,
): FastifyReply {
  const chosen_parameters = { challenge: challenge.toString('base64') };
  const attributes = {
    agent_id: agentId,
    ...outcome,
    authentication: [{ ...TPM_POP, chosen_parameters, data: proof ?? { message: '', signature: '' } }],
    created_at: pushTime(createdAtMs),
    challenges_expire_at: pushTime(challengeExpiresAtMs),
    response_received_at: pushTime(receivedAtMs),
  };
  return reply.type('application/json').send(documentOf(resource('session', id, attributes)));
}

function attributesOf({ body }: FastifyRequest): { readonly [name: string]: Json } {
  const parsed = parseResourceRequest(body);
  if (!parsed.ok) throw new HttpProblem(400, `${MALFORMED_REQUEST}: ${parsed.problem}`);
  if (parsed.value.type !== 'session') throw new HttpProblem(400, `${MALFORMED_REQUEST}: data.type must be session`);
  return parsed.value.attributes;
}

/** Any text is an id here: whether there is such an agent is not said before it proved that it is it. */
function agentIdIn({ agent_id: id }: { readonly [name: string]: Json }): string {
  if (typeof id !== 'string' || id === '' || id.length > 80 || id.includes('\0')) {
    throw new HttpProblem(400, 'agent_id is required');
  }
  return id;
}

const addressOf = (request: FastifyRequest): string => addressKey(request.socket.remoteAddress ?? '');

const tooMany = (seconds: number, whom = ''): HttpProblem =>
  new HttpProblem(429, `Rate limit exceeded${whom}. Please try again later.`, {
    headers: { 'retry-after': String(seconds) },
  });
