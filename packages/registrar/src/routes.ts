import { success } from '@keylime/api/envelope';
import { authTagMismatch, parseAuthTag } from '@keylime/api/registrar/activation';
import { type AgentResults, agentNotActivated, agentNotFound } from '@keylime/api/registrar/agents';
import { agentIdTaken, IDENTITY_CHANGED, INVALID_REGISTRATION } from '@keylime/api/registrar/registration';
import { API_VERSIONS, CURRENT_API_VERSION } from '@keylime/api/versions';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { isJsonObject } from '@keylime/core/json';
import { action } from '@keylime/service/http-authorization';
import { HttpProblem, unavailable } from '@keylime/service/http-problem';
import { forVersions, versionRoots } from '@keylime/service/http-routes';
import { sendFailure } from '@keylime/service/http-server';
import { addressKey } from '@keylime/service/rate-limit';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { ActiveAgent } from './agent-store.ts';
import type { Registrar } from './registrar.ts';
import { registrationProblemText } from './registration-text.ts';

const V2 = ['2', ...API_VERSIONS];
const V3 = ['3', '3.0'];
export const SUPPORTED_VERSIONS: readonly string[] = [...API_VERSIONS, '3.0'];

type Params = { readonly agentId?: string };
const agentPath = '/agents/:agentId';

/**
 * The registrar's routes (spec 01 section 4.1), the same on both ports. [compat] v3 answers with the envelope of v2: the
 * existing registrar's v3 answers are all errors. Agents activate with PUT /agents/{id}, documents say /activate.
 */
export function registrarRoutes(app: FastifyInstance, registrar: Registrar): void {
  const versions = { current_version: CURRENT_API_VERSION, supported_versions: SUPPORTED_VERSIONS };
  app.get('/version', { config: action('read_version') }, async () => success(versions));
  versionRoots(app, [...V2, ...V3]);
  const { register, activate, list, read, remove } = handlers(registrar);
  forVersions(app, V2, (scope) => {
    scope.post(agentPath, { config: action('register_agent') }, register);
    scope.put(agentPath, { config: action('activate_agent') }, activate);
    scope.put(`${agentPath}/activate`, { config: action('activate_agent') }, activate);
  });
  forVersions(app, [...V2, ...V3], (scope) => {
    scope.post('/agents', { config: action('register_agent') }, register);
    scope.post(`${agentPath}/activate`, { config: action('activate_agent') }, activate);
    scope.get('/agents', { config: action('list_registrations') }, list);
    scope.get(agentPath, { config: action('read_registration') }, read);
    scope.delete(agentPath, { config: action('delete_registration') }, remove);
  });
}

function handlers(registrar: Registrar) {
  const source = (request: FastifyRequest): string => addressKey(request.socket.remoteAddress ?? '');
  const idText = (request: FastifyRequest): string => (request.params as Params).agentId ?? '';
  /** The agent of the path. An id that no agent can have is one that is not found. */
  const known = (request: FastifyRequest): AgentId => {
    const agentId = parseAgentId(idText(request));
    if (agentId === undefined) throw new HttpProblem(404, agentNotFound(idText(request)));
    return agentId;
  };

  return {
    async register(request: FastifyRequest, reply: FastifyReply) {
      const inBody = isJsonObject(request.body) ? request.body.agent_id : undefined;
      const text = (request.params as Params).agentId ?? inBody;
      const agentId = typeof text === 'string' ? parseAgentId(text) : undefined;
      if (agentId === undefined) {
        return refuse(reply, ['agent_id: 1 to 80 characters of A-Z a-z 0-9 _ . - wanted']);
      }
      const outcome = await asked(registrar.register(agentId, request.body, source(request)));
      switch (outcome.kind) {
        case 'challenged':
          return success({ blob: outcome.blob.toString('base64') });
        case 'identity_changed':
          return sendFailure(reply, 403, IDENTITY_CHANGED);
        case 'invalid':
          return refuse(reply, outcome.problems.map(registrationProblemText));
        case 'too_many':
          throw tooMany(outcome.retryAfter);
      }
    },

    async activate(request: FastifyRequest, reply: FastifyReply) {
      const agentId = known(request);
      const tag = parseAuthTag(request.body);
      if (tag === undefined) return sendFailure(reply, 400, 'auth_tag: text of 96 hexadecimal digits wanted');
      const outcome = await asked(registrar.activate(agentId, tag, source(request)));
      switch (outcome.kind) {
        case 'activated':
          return success({});
        case 'unknown':
          return sendFailure(reply, 404, agentNotFound(agentId));
        case 'tag_mismatch':
          return sendFailure(reply, 400, authTagMismatch(tag, agentId));
        case 'identity_taken':
          return sendFailure(reply, 403, agentIdTaken(agentId));
        case 'too_many':
          throw tooMany(outcome.retryAfter);
      }
    },

    list: async () => success({ uuids: await asked(registrar.list()) }),

    async read(request: FastifyRequest, reply: FastifyReply) {
      const agentId = known(request);
      const found = await asked(registrar.find(agentId));
      switch (found.kind) {
        case 'active':
          return success(agentResults(found.agent));
        case 'pending':
          return sendFailure(reply, 404, agentNotActivated(agentId));
        case 'unknown':
          return sendFailure(reply, 404, agentNotFound(agentId));
      }
    },

    async remove(request: FastifyRequest, reply: FastifyReply) {
      const agentId = known(request);
      return (await asked(registrar.remove(agentId))) ? success({}) : sendFailure(reply, 404, agentNotFound(agentId));
    },
  };
}

/** What fails here is the database, or a mistake of ours: the peer may come back, and the log gets the cause. */
async function asked<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    throw unavailable('The registrar cannot answer now; its log says why.', 5, error);
  }
}

const refuse = (reply: FastifyReply, problems: readonly string[]): FastifyReply =>
  reply.code(400).send({ code: 400, status: INVALID_REGISTRATION, results: { problems } });

const tooMany = (retryAfter: number): HttpProblem =>
  new HttpProblem(429, `Too many requests. Try again in ${retryAfter} seconds.`, {
    headers: { 'retry-after': String(retryAfter) },
  });

function agentResults({ agentId, registration, regcount }: ActiveAgent): AgentResults {
  const { ekIntermediates } = registration;
  return {
    agent_id: agentId,
    ek_tpm: registration.ekPublic.toString('base64'),
    ekcert: registration.ekCertificate?.toString('base64') ?? null,
    ...(ekIntermediates.length > 0 ? { ekcert_chain: ekIntermediates.map((der) => der.toString('base64')) } : {}),
    aik_tpm: registration.akPublic.toString('base64'),
    mtls_cert: registration.mtlsCertificate,
    ip: registration.ip,
    port: registration.port,
    regcount,
  };
}
