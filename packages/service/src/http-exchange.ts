import type { IncomingHttpHeaders } from 'node:http';
import type { Dispatcher } from 'undici';
import { asHttpClientError, HttpClientError } from './http-client-error.ts';

export type HttpRequest = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** Path with query, beginning with a slash; every part already percent-encoded. */
  readonly path: string;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
};

/** A complete answer of any status; redirects are answers and are not followed. */
export type HttpAnswer = {
  readonly code: number;
  /** Names in lower case. */
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
};

/** How long each step may take, and how much may come. */
export type ExchangeLimits = {
  /** From the moment the request is sent, not from when it was queued, to the headers of the answer. */
  readonly headersTimeoutMs: number;
  /** From the headers to the end of the body. */
  readonly bodyTimeoutMs: number;
  readonly maxResponseBytes: number;
};

/** undici's own timers are off: ours give a busy process a chance to read what has arrived before they call it late. */
export const WITHOUT_OWN_TIMEOUTS = { headersTimeout: 0, bodyTimeout: 0 } as const;

/** Sends one request and collects its answer; throws `HttpClientError`. */
export function exchange(
  dispatcher: Dispatcher,
  endpoint: string,
  request: HttpRequest,
  limits: ExchangeLimits,
): Promise<HttpAnswer> {
  const { promise, resolve, reject } = Promise.withResolvers<HttpAnswer>();
  const { signal } = request;
  const body = request.json === undefined ? null : JSON.stringify(request.json);
  if (signal?.aborted) return Promise.reject(abortedError(endpoint, signal));
  const chunks: Buffer[] = [];
  let size = 0;
  let code = 0;
  let headers: IncomingHttpHeaders = {};
  let timer: NodeJS.Timeout | undefined;
  let controller: Dispatcher.DispatchController | undefined;
  let done = false;

  const finish = (error?: unknown): void => {
    if (done) return;
    done = true;
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
    if (error === undefined)
      resolve({ code, headers, body: chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks, size) });
    else reject(asHttpClientError(error, endpoint));
  };
  const giveUp = (error: HttpClientError): void => {
    finish(error);
    controller?.abort(error);
  };
  const allow = (ms: number, late: () => HttpClientError): void => {
    clearTimeout(timer);
    // The timer of a process that was busy runs before its sockets are read: look at those first.
    timer = setTimeout(() => setImmediate(() => setImmediate(() => done || giveUp(late()))), ms);
  };
  const onAbort = (): void => {
    if (signal) giveUp(abortedError(endpoint, signal));
  };
  signal?.addEventListener('abort', onAbort, { once: true });

  dispatcher.dispatch(
    {
      method: request.method,
      path: request.path,
      headers: { ...(body === null ? {} : { 'content-type': 'application/json' }), ...request.headers },
      body,
    },
    {
      onRequestStart: (started) => {
        controller = started;
        if (done) started.abort(new Error('given up'));
        else allow(limits.headersTimeoutMs, () => timeoutError('headers_timeout', endpoint, limits.headersTimeoutMs));
      },
      onResponseStart: (_, statusCode, responseHeaders) => {
        code = statusCode;
        headers = responseHeaders as IncomingHttpHeaders;
        if (statusCode < 200) return;
        allow(limits.bodyTimeoutMs, () => timeoutError('body_timeout', endpoint, limits.bodyTimeoutMs));
      },
      onResponseData: (_, chunk) => {
        size += chunk.length;
        if (size > limits.maxResponseBytes) giveUp(tooLargeError(endpoint, limits.maxResponseBytes));
        else chunks.push(chunk);
      },
      onResponseEnd: () => finish(),
      onResponseError: (_, error) => finish(error),
    },
  );
  return promise;
}

const timeoutError = (code: 'headers_timeout' | 'body_timeout', endpoint: string, ms: number): HttpClientError =>
  new HttpClientError(
    code,
    endpoint,
    code === 'headers_timeout'
      ? `it accepted the request and sent no answer within ${ms} ms.`
      : `its answer was not complete ${ms} ms after it began.`,
  );

const tooLargeError = (endpoint: string, bytes: number): HttpClientError =>
  new HttpClientError('response_too_large', endpoint, `its answer is larger than the ${bytes} bytes allowed.`);

const abortedError = (endpoint: string, signal: AbortSignal): HttpClientError =>
  new HttpClientError('aborted', endpoint, 'the request was given up.', { cause: signal.reason });
