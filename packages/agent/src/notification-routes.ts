import { failure, success } from '@keylime/api/envelope';
import type { AgentApiVersion } from '@keylime/api/versions';
import type { Log } from '@keylime/service/log';
import type { FastifyInstance } from 'fastify';
import { textFields } from './key-requests.ts';
import { MAX_MESSAGE_LENGTH } from './revocation-notice.ts';
import type { Revocations } from './revocations.ts';

const RETRY_AFTER_SECONDS = 10;

/** Revocations (spec 01 section 6.3). 200 says that the message waits on disk; its signature is looked at later. */
export function notificationRoutes(
  app: FastifyInstance,
  apiVersion: AgentApiVersion,
  { revocations, log }: { readonly revocations: Pick<Revocations, 'offer'>; readonly log: Log },
): void {
  app.post(`/v${apiVersion}/notifications/revocation`, async (request, reply) => {
    const fields = textFields(request.body, ['msg', 'signature'], []);
    const { msg = '', signature = '' } = fields.ok ? fields.value : {};
    const isTooLong = msg.length + signature.length > MAX_MESSAGE_LENGTH;
    if (!fields.ok || isTooLong) {
      const problem = fields.ok ? `The message is longer than ${MAX_MESSAGE_LENGTH} characters` : fields.problem;
      log.warn('Request refused', { problem });
      return reply.code(400).send(failure(400, problem));
    }
    if (await revocations.offer({ msg, signature }, 'https')) return reply.send(success(null));
    log.warn('A revocation is turned away: too many wait');
    reply.header('retry-after', RETRY_AFTER_SECONDS);
    return reply.code(503).send(failure(503, 'Too many revocations wait: send it again later'));
  });
}
