import { encAlgName } from '@keylime/api/agent/algorithm-names';
import type { AgentInfoResults } from '@keylime/api/agent/info';
import type { PubkeyResults } from '@keylime/api/agent/keys';
import type { QuoteResults } from '@keylime/api/agent/quote';
import type { AgentVersionResults } from '@keylime/api/agent/version';
import { failure, success } from '@keylime/api/envelope';
import { type AgentApiVersion, compareApiVersions } from '@keylime/api/versions';
import type { AgentId } from '@keylime/core/agent-id';
import type { NonEmpty } from '@keylime/core/non-empty';
import type { Log } from '@keylime/service/log';
import { isTpmError } from '@keylime/tpm/response-code';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { AgentError } from './agent-error.ts';
import type { Attester } from './attester.ts';
import type { BootLog } from './boot-log.ts';
import type { Bootstrap } from './bootstrap.ts';
import { keyRoutes } from './key-routes.ts';
import type { MeasurementList } from './measurement-list.ts';
import { notificationRoutes } from './notification-routes.ts';
import { quoteAnswer } from './quote-answer.ts';
import {
  type IntegrityRequest,
  parseIdentityQuery,
  parseIntegrityQuery,
  type Query,
  type QuoteRequest,
} from './quote-query.ts';
import type { Revocations } from './revocations.ts';
import { unknownPath } from './unknown-path.ts';

/** What the routes serve. */
export type AgentServices = {
  readonly agentId: AgentId;
  /** Versions that are served, oldest first. */
  readonly apiVersions: NonEmpty<AgentApiVersion>;
  readonly attester: Attester;
  /** PEM SubjectPublicKeyInfo of the payload key: exactly the text that PCR 16 is extended with. */
  readonly payloadKeyPem: string;
  readonly measurementList: Pick<MeasurementList, 'readFrom'>;
  readonly bootLog: BootLog;
  readonly bootstrap: Bootstrap;
  readonly revocations: Pick<Revocations, 'offer'>;
  readonly log: Log;
};

/** The routes of a pull agent, each in every version that is served (spec 01 section 6), and the answers to all others. */
export function agentRoutes(app: FastifyInstance, services: AgentServices): void {
  const { apiVersions } = services;
  const version: AgentVersionResults = {
    supported_version: apiVersions.at(-1) ?? apiVersions[0],
    supported_versions: [...apiVersions],
  };
  app.get('/version', async () => success(version));
  for (const apiVersion of apiVersions) {
    versionRoutes(app, apiVersion, services);
    keyRoutes(app, apiVersion, services);
    notificationRoutes(app, apiVersion, services);
  }
  app.all('*', async (request, reply) => {
    const { status, allow, text } = unknownPath(request.method, request.url, apiVersions);
    if (allow !== undefined) reply.header('Allow', allow);
    return reply.code(status).send(failure(status, text));
  });
}

function versionRoutes(app: FastifyInstance, apiVersion: AgentApiVersion, services: AgentServices): void {
  const { agentId, attester, payloadKeyPem, log } = services;
  const at = (path: string) => `/v${apiVersion}/${path}`;
  const encAlg = encAlgName(attester.encAlg, apiVersion);

  const quote = async (request: QuoteRequest): Promise<QuoteResults> => ({
    quote: await attester.quote({ nonce: request.nonce, mask: request.mask, bindingPublicKeyPem: payloadKeyPem }),
    hash_alg: attester.hashAlg,
    enc_alg: encAlg,
    sign_alg: attester.signAlg,
    ...(request.withPubkey && { pubkey: payloadKeyPem }),
  });
  const unable = (reply: FastifyReply, cause: unknown) => {
    // Of what a caller chooses, only the nonce can be too large for a TPM: its limit is the largest hash that it has.
    if (isTpmError(cause, 'TPM_RC_SIZE')) return badRequest(reply, 'Nonce is too long for this TPM');
    if (cause instanceof AgentError && cause.code === 'list_position_unknown') {
      log.error(cause.message);
      return reply.code(409).send(failure(409, cause.message));
    }
    log.error('Unable to retrieve quote', { reason: cause });
    return reply.code(500).send(failure(500, 'Unable to retrieve quote'));
  };
  const badRequest = (reply: FastifyReply, problem: string) => {
    log.warn('Request refused', { problem });
    return reply.code(400).send(failure(400, problem));
  };

  app.get<{ Querystring: Query }>(at('quotes/identity'), async (request, reply) => {
    const query = parseIdentityQuery(request.query);
    if (!query.ok) return badRequest(reply, query.problem);
    try {
      return success(await quote(query.value));
    } catch (cause) {
      return unable(reply, cause);
    }
  });

  app.get<{ Querystring: Query }>(at('quotes/integrity'), async (request, reply) => {
    const query = parseIntegrityQuery(request.query);
    if (!query.ok) return badRequest(reply, query.problem);
    try {
      // [MUST] The quote comes first: a list read before it could lack entries that the quote covers.
      const results = await quote(query.value);
      const answer = await withLogs(results, query.value, services);
      return reply.type('application/json').send(answer);
    } catch (cause) {
      return unable(reply, cause);
    }
  });

  app.get(at('keys/pubkey'), async () => success<PubkeyResults>({ pubkey: payloadKeyPem }));
  if (compareApiVersions(apiVersion, '2.2') < 0) return;
  app.get(at('agent/info'), async () =>
    success<AgentInfoResults>({
      agent_uuid: agentId,
      tpm_hash_alg: attester.hashAlg,
      tpm_enc_alg: encAlg,
      tpm_sign_alg: attester.signAlg,
      ak_handle: attester.akHandle(),
    }),
  );
}

/** Adds the boot log, if PCR 0 was asked for, and the measurement list. What cannot be opened is left out. */
async function withLogs(results: QuoteResults, request: IntegrityRequest, { bootLog, measurementList }: AgentServices) {
  const boot = (request.mask & 1) === 1 ? bootLog.read() : undefined;
  const list = await measurementList.readFrom(request.firstEntry);
  return quoteAnswer(boot ? { ...results, mb_measurement_list: boot.toString('base64') } : results, list);
}
