import { reasonOf } from '@keylime/api/envelope';

/**
 * A request that is answered with an error: thrown by a handler, sent as the v2 envelope `{code, status, results: {}}`.
 * `message` is what the peer reads; it must say what was wrong and hold no secret.
 */
export class HttpProblem extends Error {
  override readonly name = 'HttpProblem';
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    statusCode: number,
    message = reasonOf(statusCode),
    options: ErrorOptions & { readonly headers?: Readonly<Record<string, string>> } = {},
  ) {
    super(message, options);
    this.statusCode = statusCode;
    this.headers = options.headers ?? {};
  }
}

/** An answer for a service that cannot work at the moment; the peer is told to come back after `retryAfterSeconds`. */
export const unavailable = (message: string, retryAfterSeconds = 1, cause?: unknown): HttpProblem =>
  new HttpProblem(503, message, { cause, headers: { 'retry-after': String(retryAfterSeconds) } });
