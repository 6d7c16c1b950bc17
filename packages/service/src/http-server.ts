import { isUtf8 } from 'node:buffer';
import { randomBytes } from 'node:crypto';
import type { IncomingMessage, Server } from 'node:http';
import type { Server as HttpsServer } from 'node:https';
import type { Socket } from 'node:net';
import { failure, reasonOf } from '@keylime/api/envelope';
import Fastify, { type FastifyError, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { authorizeRequests, type VerifyToken } from './http-authorization.ts';
import { HttpProblem } from './http-problem.ts';
import { watchRoutes } from './http-routes.ts';
import type { Log } from './log.ts';
import { refuseUnverifiedClients, type ServerTls, serverTlsOptions } from './tls.ts';

/** Milliseconds after which a connection that does not get on is closed. */
export type HttpServerTimeouts = {
  /** The TLS handshake must be over; then, all headers of a request must be there. */
  readonly headersMs: number;
  /** The whole request must be there. */
  readonly requestMs: number;
  /** A connection between two requests. */
  readonly keepAliveMs: number;
  /** No byte moves while a request is read or answered. */
  readonly idleMs: number;
  /** Requests that are being answered when the server closes. */
  readonly closeMs: number;
};

export const DEFAULT_HTTP_SERVER_TIMEOUTS: HttpServerTimeouts = {
  headersMs: 10_000,
  requestMs: 120_000,
  keepAliveMs: 30_000,
  idleMs: 120_000,
  closeMs: 10_000,
};

export type HttpServerOptions = {
  readonly log: Log;
  /** Without it the server speaks plain HTTP, and only public routes work. */
  readonly tls?: ServerTls | undefined;
  /** Largest body in bytes; a larger one is answered with 413. */
  readonly bodyLimitBytes: number;
  /**
   * Bodies are JSON whatever their content type says, and may be empty. [compat] The verifier's clients send JSON without a
   * content type (spec 01 section 2.5). Otherwise a body without a JSON content type is answered with 415.
   */
  readonly parseBodyWithoutContentType?: boolean | undefined;
  /** What is routed instead of the path that was asked for, before anything else is looked at. */
  readonly rewritePath?: ((path: string) => string) | undefined;
  /** `none`: every client that reaches the server may do everything it offers, as on an agent; the default is `rules`. */
  readonly authorization?: 'rules' | 'none' | undefined;
  readonly verifyToken?: VerifyToken | undefined;
  readonly timeouts?: Partial<HttpServerTimeouts> | undefined;
};

const MAX_HEADER_BYTES = 16_384;
const MAX_PATH_PARAMETER = 512;
const JSON_CONTENT_TYPE = /^application\/([a-z.-]+\+)?json\b/;

/**
 * The one way to make an HTTP server: every error is a JSON envelope, a client certificate that does not verify closes the
 * connection, routes are checked by their `action` (`http-authorization.ts`), slow and half-open connections are closed,
 * `X-Request-ID` is echoed. Paths are case-sensitive, one trailing slash is optional. Call `listen` on the result, or
 * `listenAll` for several.
 */
export function buildHttpServer(options: HttpServerOptions): FastifyInstance {
  const { log, tls } = options;
  const timeouts = { ...DEFAULT_HTTP_SERVER_TIMEOUTS, ...options.timeouts };
  const app = newFastify(options, timeouts);
  const server = app.server as Server | HttpsServer;
  server.headersTimeout = timeouts.headersMs;
  if (tls) {
    refuseUnverifiedClients(server as HttpsServer, (reason) =>
      log.warn('A client certificate that does not verify was refused', { reason }),
    );
  }
  parseJsonBodies(app, options.parseBodyWithoutContentType ?? false);
  const routes = watchRoutes(app);
  const answerUnknown = async (request: FastifyRequest, reply: FastifyReply) => {
    const methods = routes.methodsOf(request.url);
    if (methods.length === 0) return sendFailure(reply, 404, 'There is nothing at this path.');
    reply.header('allow', methods.join(', '));
    return sendFailure(reply, 405, `Method ${request.method} is not supported here, only ${methods.join(', ')}.`);
  };
  app.setNotFoundHandler(answerUnknown);
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-request-id', request.id);
    // Here already, so that the body of such a request is not looked at.
    if (request.is404) await answerUnknown(request, reply);
  });
  if (options.authorization !== 'none') {
    authorizeRequests(app, { adminNamesWithoutEku: tls?.adminNamesWithoutEku, verifyToken: options.verifyToken });
  }
  app.setErrorHandler<FastifyError>((error, request, reply) => answerError(error, request, reply, log));
  app.addHook('preClose', async () => {
    // Closing waits for requests that are being answered; a peer that takes no answer must not hold it up.
    setTimeout(() => server.closeAllConnections(), timeouts.closeMs).unref();
  });
  return app;
}

function newFastify(options: HttpServerOptions, timeouts: HttpServerTimeouts): FastifyInstance {
  const common = {
    logger: false,
    bodyLimit: options.bodyLimitBytes,
    connectionTimeout: timeouts.idleMs,
    requestTimeout: timeouts.requestMs,
    keepAliveTimeout: timeouts.keepAliveMs,
    forceCloseConnections: 'idle' as const,
    // A verifier takes 503 for a verdict on the agent; what still gets in while we close is answered as always.
    return503OnClosing: false,
    exposeHeadRoutes: false,
    requestIdHeader: false as const,
    genReqId: requestId,
    ...(options.rewritePath && { rewriteUrl: ({ url = '/' }) => options.rewritePath?.(url) ?? url }),
    routerOptions: {
      ignoreTrailingSlash: true,
      caseSensitive: true,
      maxParamLength: MAX_PATH_PARAMETER,
    },
    // Evidence and policies are judged as they were sent: a schema converts, adds and removes nothing.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false, allErrors: false } },
    clientErrorHandler: answerMalformedHttp,
    frameworkErrors: (error: FastifyError, request: FastifyRequest, reply: FastifyReply) =>
      answerError(error, request, reply, options.log),
  };
  const parser = {
    maxHeaderSize: MAX_HEADER_BYTES,
    // How often the two limits are looked at; they would otherwise be overdrawn by half a minute.
    connectionsCheckingInterval: Math.max(50, Math.min(2_000, timeouts.headersMs / 4)),
  };
  const app = options.tls
    ? Fastify({
        ...common,
        https: { ...parser, ...serverTlsOptions(options.tls), handshakeTimeout: timeouts.headersMs },
      })
    : Fastify({ ...common, http: parser });
  return app as unknown as FastifyInstance;
}

/** The peer's `X-Request-ID` without what is no word character, cut to 36; a new one if it sent none (spec 01 section 8). */
function requestId(request: IncomingMessage): string {
  const header = request.headers['x-request-id'];
  const own = typeof header === 'string' ? header.replaceAll(/\W/g, '').slice(0, 36) : '';
  return own || randomBytes(6).toString('hex');
}

function parseJsonBodies(app: FastifyInstance, anyContentType: boolean): void {
  // The framework's own parser refuses `__proto__` and `constructor.prototype` keys.
  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.removeAllContentTypeParsers();
  app.addContentTypeParser(
    anyContentType ? '*' : JSON_CONTENT_TYPE,
    { parseAs: 'buffer' },
    (request, body: Buffer, done) => {
      if (body.length === 0) done(null, undefined);
      else if (!isUtf8(body)) done(new HttpProblem(400, 'The body is not UTF-8.'));
      else parseJson(request, body.toString('utf8'), done);
    },
  );
}

/** Sends the v2 envelope of an error. */
export const sendFailure = (reply: FastifyReply, code: number, status?: string): FastifyReply =>
  reply.code(code).type('application/json').send(failure(code, status));

function answerError(
  error: FastifyError | HttpProblem,
  request: FastifyRequest,
  reply: FastifyReply,
  log: Log,
): FastifyReply {
  const { code, status } = describe(error);
  if (code >= 500) {
    // The peer learns nothing of the cause: it is in our log, under the same request id.
    log.error('A request failed', { reqid: request.id, method: request.method, path: request.url, code, error });
  }
  if (error instanceof HttpProblem) reply.headers(error.headers);
  return sendFailure(reply, code, status);
}

function describe(error: FastifyError | HttpProblem): { readonly code: number; readonly status: string } {
  if (error instanceof HttpProblem) return { code: error.statusCode, status: error.message };
  const code = error.statusCode ?? 500;
  if (error.validation) return { code: 400, status: `Malformed request: ${error.message}.` };
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return { code: 413, status: 'The body is larger than this service accepts.' };
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return { code: 400, status: 'The body is not valid JSON.' };
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return { code: 415, status: 'Send the body as JSON, with Content-Type: application/json.' };
    case 'FST_ERR_BAD_URL':
      return { code: 400, status: 'The path is not a valid URL path.' };
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return { code: 400, status: 'The body is not as long as Content-Length says.' };
  }
  // Texts of the framework or a library may show internals: a reason phrase is all that goes out.
  return code >= 400 && code < 600 ? { code, status: reasonOf(code) } : { code: 500, status: reasonOf(500) };
}

/** Answers what the HTTP parser refused: there is no request object yet. */
function answerMalformedHttp(error: Error & { readonly code?: string }, socket: Socket): void {
  // A handshake that failed leaves nothing to write an answer to.
  const noHttp = error.code === undefined || !/^HPE_|^ERR_HTTP_/.test(error.code);
  if (noHttp || socket.destroyed || !socket.writable) {
    socket.destroy();
    return;
  }
  const code = error.code === 'HPE_HEADER_OVERFLOW' ? 431 : error.code === 'ERR_HTTP_REQUEST_TIMEOUT' ? 408 : 400;
  const body = JSON.stringify(failure(code));
  const head = [
    `HTTP/1.1 ${code} ${reasonOf(code)}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`, () => socket.destroy());
}
