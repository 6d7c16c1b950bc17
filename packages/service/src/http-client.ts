import { checkServerIdentity } from 'node:tls';
import type { buildConnector as Connector } from 'undici';
import { HttpClientError } from './http-client-error.ts';
import { authority } from './http-endpoint.ts';
import { exchange, type HttpAnswer, type HttpRequest, WITHOUT_OWN_TIMEOUTS } from './http-exchange.ts';
import { keepFirstError } from './pinned-connection.ts';
import { requirePems } from './tls.ts';
import { buildConnector, Pool } from './undici.ts';

/** A client certificate with its key. */
export type ClientCertificate = {
  readonly certPem: string;
  readonly keyPem: string;
  readonly passphrase?: string | undefined;
};

export type ServerClientOptions = {
  /** `https://host:port` or `http://host:port`; IPv6 addresses in brackets. */
  readonly baseUrl: string;
  /** PEM of the only CAs that are believed; the operating system's ones never are. Not for `http`. */
  readonly caPems?: readonly string[] | undefined;
  readonly clientCertificate?: ClientCertificate | undefined;
  /**
   * `false` accepts a certificate of the trusted CAs for whatever name. [compat] Certificates of existing `cv_ca` folders
   * may lack the name or address that is used, and the existing programs do not look (spec 01 section 7.2).
   */
  readonly checkHostName?: boolean | undefined;
  /** Milliseconds for each of: connecting, waiting for the answer, receiving it. */
  readonly timeoutMs: number;
  readonly maxResponseBytes?: number | undefined;
  /** Connections at the same time. */
  readonly connections?: number | undefined;
};

export type HttpClient = {
  /** Sends a request; an answer of any status is a result. Throws `HttpClientError`. */
  readonly request: (request: HttpRequest) => Promise<HttpAnswer>;
  readonly close: () => Promise<void>;
};

const MAX_RESPONSE_BYTES = 100 * 1024 * 1024;

/**
 * A client of one server (registrar, verifier, webhook). Connections are kept alive; redirects are not followed. Throws
 * `RangeError` if an https client is given no CA, `HttpClientError` `invalid_endpoint` for a URL that is none.
 */
export function openServerClient(options: ServerClientOptions): HttpClient {
  const origin = originOf(options.baseUrl);
  const limits = {
    headersTimeoutMs: options.timeoutMs,
    bodyTimeoutMs: options.timeoutMs,
    maxResponseBytes: options.maxResponseBytes ?? MAX_RESPONSE_BYTES,
  };
  const connect = buildConnector({
    timeout: options.timeoutMs,
    ...(origin.startsWith('https:') ? tlsOptions(options) : {}),
  });
  const pool = new Pool(origin, {
    ...WITHOUT_OWN_TIMEOUTS,
    connections: options.connections ?? 8,
    connect: (target, done) =>
      connect(target, (...result) => {
        if (result[1]) keepFirstError(result[1]);
        done(...result);
      }),
  });
  return {
    request: (request) => exchange(pool, origin, request, limits),
    close: () => pool.destroy(),
  };
}

function tlsOptions(options: ServerClientOptions): Connector.BuildOptions {
  const { caPems = [], clientCertificate, checkHostName = true } = options;
  requirePems(caPems, `trusted CA for ${options.baseUrl}`);
  return {
    ca: [...caPems],
    // A configured CA that is itself issued by another one is trusted as it stands.
    allowPartialTrustChain: true,
    // Said explicitly, so that no environment variable can turn it off.
    rejectUnauthorized: true,
    minVersion: 'TLSv1.2',
    checkServerIdentity: checkHostName ? checkServerIdentity : () => undefined,
    ...(clientCertificate
      ? {
          cert: clientCertificate.certPem,
          key: clientCertificate.keyPem,
          ...(clientCertificate.passphrase ? { passphrase: clientCertificate.passphrase } : {}),
        }
      : {}),
  };
}

function originOf(baseUrl: string): string {
  const url = URL.parse(baseUrl);
  const isBare = url && ['', '/'].includes(url.pathname) && url.search === '' && url.username === '' && url.hash === '';
  if (!isBare || (url.protocol !== 'https:' && url.protocol !== 'http:')) {
    throw new HttpClientError('invalid_endpoint', JSON.stringify(baseUrl), 'this is no URL like https://host:port.');
  }
  const port = url.port === '' ? (url.protocol === 'https:' ? 443 : 80) : Number(url.port);
  return `${url.protocol}//${authority(url.hostname, port)}`;
}
