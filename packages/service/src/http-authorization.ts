import { permissionErrors } from '@keylime/api/envelope';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { HttpProblem } from './http-problem.ts';
import { ANONYMOUS, type ClientIdentity, clientIdentity } from './tls.ts';

/** Who asks: an administrator by client certificate, an agent by bearer token, or nobody. */
export type Identity = ClientIdentity | { readonly kind: 'agent'; readonly agentId: string };

/** Why an `Authorization` header is not accepted (spec 01 section 3.3). */
export type TokenProblem =
  | 'Invalid Authorization header format'
  | 'Invalid authentication token'
  | 'Authentication session not active'
  | 'Authentication token expired';

/** Finds the agent that a bearer token stands for. */
export type VerifyToken = (token: string) => Promise<{ readonly agentId: string } | TokenProblem>;

/** Who may do an action: everybody, the agent that the path names, that agent or an administrator, an administrator. */
export type Audience = 'public' | 'agent' | 'agent_or_admin' | 'admin';

// Every other action is for administrators (spec 01 section 3.3).
const AUDIENCES: ReadonlyMap<string, Audience> = new Map<string, Audience>([
  ['read_version', 'public'],
  ['read_server_info', 'public'],
  ['verify_identity', 'public'],
  ['verify_evidence', 'public'],
  ['create_session', 'public'],
  ['extend_session', 'public'],
  ['register_agent', 'public'],
  ['activate_agent', 'public'],
  ['submit_attestation', 'agent'],
  ['read_agent', 'agent_or_admin'],
]);

export const audienceOf = (action: string): Audience => AUDIENCES.get(action) ?? 'admin';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** What the route does, in the words of the permission rules. A route without it is refused to everybody. */
    action?: string;
    /** Name of the path parameter that holds the agent's id; `agentId` unless said otherwise. */
    agentParameter?: string;
    /** An `Authorization` header is not looked at: on the way to a token, an old one is no fault. Public routes only. */
    ignoresToken?: boolean;
  }
  interface FastifyRequest {
    /** Who asks; set before the handler runs. */
    identity: Identity;
  }
}

/** Route options of one action: `app.get('/agents', { config: action('list_agents') }, ...)`. */
export const action = (name: string): { readonly action: string } => ({ action: name });

/**
 * Checks every request of `app` in this order (spec 01 section 3.1): a route exists (404, 405), a protected route is asked
 * for over TLS (400), an `Authorization` header is valid (401, on public routes too), the rule of the route's action (403).
 * It runs before the body is read. [MUST] A request with an `Authorization` header never counts as its client certificate.
 * Without `verifyToken` no token is valid.
 */
export function authorizeRequests(
  app: FastifyInstance,
  options: {
    readonly adminNamesWithoutEku?: readonly string[] | undefined;
    readonly verifyToken?: VerifyToken | undefined;
  } = {},
): void {
  app.decorateRequest('identity', null as never);
  app.addHook('onRequest', async (request, reply) => {
    request.identity = ANONYMOUS;
    if (request.is404) return;
    const { action: name, agentParameter = 'agentId' } = request.routeOptions.config;
    const audience = name === undefined ? 'admin' : audienceOf(name);
    if (audience !== 'public' && request.protocol !== 'https') {
      throw new HttpProblem(400, 'This resource is served over HTTPS only.');
    }
    const ignoresToken = audience === 'public' && request.routeOptions.config.ignoresToken === true;
    const identity = ignoresToken ? ANONYMOUS : await identify(request, options);
    if (typeof identity === 'string') return refuse(reply, 401, identity);
    request.identity = identity;
    const problem =
      name === undefined
        ? 'Could not determine required permissions for this operation'
        : whyRefused(name, identity, pathParameter(request, agentParameter));
    if (problem !== undefined) return refuse(reply, 403, problem);
  });
}

async function identify(
  request: FastifyRequest,
  options: {
    readonly adminNamesWithoutEku?: readonly string[] | undefined;
    readonly verifyToken?: VerifyToken | undefined;
  },
): Promise<Identity | TokenProblem> {
  const header = request.headers.authorization;
  if (header === undefined) return clientIdentity(request.raw.socket, options.adminNamesWithoutEku);
  const token = /^Bearer (\S+)$/.exec(header)?.[1];
  if (token === undefined) return 'Invalid Authorization header format';
  const found = (await options.verifyToken?.(token)) ?? 'Invalid authentication token';
  return typeof found === 'string' ? found : { kind: 'agent', agentId: found.agentId };
}

/** Why `identity` may not do `name` on the agent called `agentId`, in the words that scripts look for; else `undefined`. */
export function whyRefused(name: string, identity: Identity, agentId: string | undefined): string | undefined {
  const audience = audienceOf(name);
  switch (audience) {
    case 'public':
      return undefined;
    case 'admin':
      return identity.kind === 'admin' ? undefined : `Action ${name} requires admin authentication (mTLS certificate)`;
    case 'agent':
      if (identity.kind !== 'agent') return `Action ${name} requires agent authentication (PoP token)`;
      return ownerProblem(identity.agentId, agentId);
    case 'agent_or_admin':
      if (identity.kind === 'admin') return undefined;
      if (identity.kind === 'anonymous') return `Action ${name} requires authentication`;
      return ownerProblem(identity.agentId, agentId);
  }
}

const ownerProblem = (own: string, asked: string | undefined): string | undefined =>
  own === asked ? undefined : `Agent ${own} cannot access resource ${asked} (ownership required)`;

function pathParameter(request: FastifyRequest, name: string): string | undefined {
  const value = (request.params as Readonly<Record<string, unknown>> | undefined)?.[name];
  return typeof value === 'string' ? value : undefined;
}

const refuse = (reply: FastifyReply, code: 401 | 403, detail: string): FastifyReply =>
  reply.code(code).type('application/json; charset=UTF-8').send(permissionErrors(code, detail));
