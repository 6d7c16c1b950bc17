import type { KeyVerifyResults } from '@keylime/api/agent/keys';
import { failure, success } from '@keylime/api/envelope';
import type { AgentApiVersion } from '@keylime/api/versions';
import type { Parsed } from '@keylime/core/parsed';
import type { Log } from '@keylime/service/log';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Bootstrap } from './bootstrap.ts';
import { isAlphanumeric, parameter, type Query } from './quote-query.ts';

/** Routes of secure bootstrapping (spec 01 section 6.2). 200 says that a half was taken, not that there is a K. */
export function keyRoutes(
  app: FastifyInstance,
  apiVersion: AgentApiVersion,
  { bootstrap, log }: { readonly bootstrap: Bootstrap; readonly log: Log },
): void {
  const refuse = (reply: FastifyReply, problem: string) => {
    log.warn('Request refused', { problem });
    return reply.code(400).send(failure(400, problem));
  };
  // [compat] The existing agent's `results` is null here.
  const answer = (reply: FastifyReply, taken: Parsed<undefined, string>) =>
    taken.ok ? reply.send(success(null)) : refuse(reply, taken.problem);

  app.post(`/v${apiVersion}/keys/ukey`, async (request, reply) => answer(reply, bootstrap.receiveU(request.body)));
  app.post(`/v${apiVersion}/keys/vkey`, async (request, reply) => answer(reply, bootstrap.receiveV(request.body)));
  app.get<{ Querystring: Query }>(`/v${apiVersion}/keys/verify`, async (request, reply) => {
    const challenge = parameter(request.query, 'challenge');
    if (!challenge.ok) return refuse(reply, challenge.problem);
    if (challenge.value === '') return refuse(reply, 'No challenge provided.');
    if (!isAlphanumeric(challenge.value)) {
      return refuse(reply, `Parameters should be strictly alphanumeric: ${challenge.value}`);
    }
    const hmac = bootstrap.answer(challenge.value);
    if (hmac === undefined) return refuse(reply, 'Bootstrap key not yet available.');
    return success<KeyVerifyResults>({ hmac });
  });
}
