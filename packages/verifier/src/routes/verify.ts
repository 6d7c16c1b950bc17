import { failure, success } from '@keylime/api/envelope';
import { pythonJson } from '@keylime/api/python-json';
import { failureEvent } from '@keylime/appraisal/event';
import { parseAgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { isHashAlgorithm } from '@keylime/core/digest';
import { action } from '@keylime/service/http-authorization';
import { unavailable } from '@keylime/service/http-problem';
import type { VersionRoutes } from '@keylime/service/http-routes';
import { decodePublic } from '@keylime/tpm/public';
import { verifyQuote } from '@keylime/tpm/quote';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { AgentStore } from '../agent-store.ts';
import type { AppraisalTask } from '../appraisal-worker.ts';
import type { BootPolicies } from '../boot-policies.ts';
import type { BootRules, EvidenceAnswer } from '../evidence-request.ts';
import type { BootUnjudged } from '../judge.ts';
import { type ThreadPool, ThreadPoolError } from '../thread-pool.ts';

/** Requests with evidence, for each may bring a large body. */
const MOST_AT_ONCE = 16;

type IdentityQuery = {
  readonly Querystring: { readonly [name in 'agent_uuid' | 'quote' | 'nonce' | 'hash_alg']?: string | string[] };
};

/**
 * One-shot verification for everybody (01 sections 5.7 and 5.8 of the reference). `verify/identity` says that the agent's AK
 * signed this quote about this nonce and nothing about the integrity of the machine.
 */
export function verifyRoutes(parts: {
  readonly agents: AgentStore;
  readonly pool: ThreadPool<AppraisalTask>;
  readonly bootPolicies: BootPolicies;
}): VersionRoutes {
  const { agents, pool, bootPolicies } = parts;
  let underWay = 0;
  async function admit(_: FastifyRequest, reply: FastifyReply): Promise<void> {
    if (underWay >= MOST_AT_ONCE) throw unavailable('Too much evidence is waiting to be judged.', 5);
    underWay++;
    reply.raw.once('close', () => underWay--);
  }
  /** Judges the evidence in a body: its boot, if it has one, by its policy first. */
  async function answerTo(body: Uint8Array): Promise<EvidenceAnswer> {
    const ask = (boot: BootRules) => pool.run<EvidenceAnswer | BootUnjudged>({ kind: 'evidence', body, boot });
    const first = await ask(bootPolicies.byDefault);
    if (!('question' in first)) return first;
    const answer = await ask({
      ...bootPolicies.byDefault,
      verdict: await bootPolicies.judge(first.question, 'stranger'),
    });
    if ('question' in answer) throw new Error('The verdict is of another boot.');
    return answer;
  }
  return (app) => {
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

    app.register(async (scope) => {
      // Bodies of strangers are not even parsed here: that, too, would hold up the agents.
      scope.removeAllContentTypeParsers();
      scope.addContentTypeParser('*', { parseAs: 'buffer' }, (_, body, done) => done(null, body));
      const post = { config: action('verify_evidence'), onRequest: admit };
      scope.post<{ readonly Body: Buffer | undefined }>('/verify/evidence', post, async ({ body }, reply) => {
        const { code, json } = await answerTo(body ?? Buffer.alloc(0)).catch((error: unknown) => {
          if (error instanceof ThreadPoolError) throw unavailable(error.message, 5, error);
          throw error;
        });
        return reply.code(code).type('application/json').send(Buffer.from(json.buffer));
      });
    });
  };
}
