import { failure, success } from '@keylime/api/envelope';
import { pythonJson } from '@keylime/api/python-json';
import { failureEvent } from '@keylime/appraisal/event';
import { parseAgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { isHashAlgorithm } from '@keylime/core/digest';
import type { Json } from '@keylime/core/json';
import { action } from '@keylime/service/http-authorization';
import { unavailable } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import { decodePublic } from '@keylime/tpm/public';
import { verifyQuote } from '@keylime/tpm/quote';
import type { AgentStore } from '../agent-store.ts';
import { type AppraisalPool, AppraisalPoolError } from '../appraisal-pool.ts';
import { decodeEvidenceRequest, type EvidenceVerdict } from '../evidence-request.ts';

type IdentityQuery = {
  readonly Querystring: { readonly [name in 'agent_uuid' | 'quote' | 'nonce' | 'hash_alg']?: string | string[] };
};

/**
 * One-shot verification for everybody (01 sections 5.7 and 5.8 of the reference). `verify/identity` says that the agent's AK
 * signed this quote about this nonce and nothing about the integrity of the machine.
 */
export const verifyRoutes =
  ({ agents, pool }: { readonly agents: AgentStore; readonly pool: AppraisalPool }): VersionRoutes =>
  (app) => {
    app.get<IdentityQuery>('/verify/identity', { config: action('verify_identity') }, async ({ query }, reply) => {
      const refused = (code: number, status: string) => reply.code(code).send(failure(code, status));
      const given: Record<string, string> = {};
      for (const name of ['agent_uuid', 'quote', 'nonce', 'hash_alg'] as const) {
        const value = query[name];
        if (typeof value !== 'string' || value === '') return refused(400, `missing query parameter '${name}'`);
        given[name] = value;
      }
      const { agent_uuid: uuid = '', quote = '', nonce = '', hash_alg: hashAlg = '' } = given;
      if (!isHashAlgorithm(hashAlg)) return refused(400, `hash_alg '${hashAlg}' is unknown`);
      const id = parseAgentId(uuid);
      const agent = id && (await agents.find(id));
      if (agent === undefined) return refused(404, 'agent id not found');
      const ak = decodePublic(parseBase64(agent.akTpm) ?? Buffer.alloc(0));
      const result = verifyQuote({ text: quote, ak, hashAlg, nonce: Buffer.from(nonce) });
      // [compat] Numbers here, booleans in verify/evidence.
      if (result.ok) return success({ valid: 1 });
      return success({ valid: 0, reason: pythonJson(failureEvent(result.failure).context) });
    });

    app.post('/verify/evidence', { config: action('verify_evidence') }, async ({ body }, reply) => {
      const request = decodeEvidenceRequest(body as Json | undefined);
      if (!request.ok)
        return reply.code(request.problem.code).send(failure(request.problem.code, request.problem.status));
      const verdict = await pool
        .run<EvidenceVerdict>({ kind: 'evidence', request: request.value })
        .catch((error: unknown) => {
          if (error instanceof AppraisalPoolError) throw unavailable(error.message, 5, error);
          throw error;
        });
      const claims = verdict.valid ? (body as { readonly data: Json }).data : {};
      return success({ valid: verdict.valid, claims, failures: verdict.failures });
    });
  };
