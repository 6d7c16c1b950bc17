import { type PushProblem, problemDocument, sessionProblemDocument } from '@keylime/api/push-document';
import { HttpProblem } from '@keylime/service/http-problem';
import type { FastifyInstance } from 'fastify';

/** A request of the push protocol that is not done, as its attestation routes say it. */
export class PushRefusal extends Error {
  readonly problem: PushProblem;
  /** Whole seconds, at least 1. */
  readonly retryAfterSeconds: number | undefined;
  constructor(problem: PushProblem, retryAfterSeconds?: number) {
    super(problem.detail);
    this.name = 'PushRefusal';
    this.problem = problem;
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** Makes `scope` answer refusals as JSON:API errors (05 section 2.2 of the reference); what broke is answered as elsewhere. */
export function answerInJsonApi(scope: FastifyInstance): void {
  scope.setErrorHandler((error, _, reply) => {
    if (error instanceof PushRefusal) {
      const { problem, retryAfterSeconds } = error;
      if (retryAfterSeconds !== undefined) reply.header('retry-after', String(retryAfterSeconds));
      return reply.code(problem.status).type('application/vnd.api+json').send(problemDocument(problem));
    }
    if (error instanceof HttpProblem) {
      const { statusCode, message, headers } = error;
      return reply
        .headers(headers)
        .code(statusCode)
        .type('application/vnd.api+json')
        .send(sessionProblemDocument(statusCode, message));
    }
    throw error;
  });
}
