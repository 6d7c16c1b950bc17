/** Why a request got no answer; stable, for programs to switch on. */
export type HttpClientErrorCode =
  | 'invalid_endpoint'
  | 'name_not_found'
  | 'connection_refused'
  | 'host_unreachable'
  | 'connect_timeout'
  | 'connection_closed'
  | 'tls_failed'
  | 'untrusted_certificate'
  | 'certificate_expired'
  | 'host_name_mismatch'
  | 'client_certificate_refused'
  | 'pinned_certificate_mismatch'
  | 'headers_timeout'
  | 'body_timeout'
  | 'response_too_large'
  | 'malformed_response'
  | 'aborted'
  | 'client_closed'
  | 'request_failed';

/** A request that got no complete answer. The message says to whom it went, what failed and what is likely the reason. */
export class HttpClientError extends Error {
  override readonly name = 'HttpClientError';
  readonly code: HttpClientErrorCode;
  /** Whom the request was for, such as `https://[::1]:9002`. */
  readonly endpoint: string;

  constructor(code: HttpClientErrorCode, endpoint: string, why: string, options?: ErrorOptions) {
    super(`${endpoint}: ${why}`, options);
    this.code = code;
    this.endpoint = endpoint;
  }
}

/** What the codes of Node, OpenSSL and undici mean; the first pattern that fits counts. */
const MEANINGS: readonly (readonly [RegExp, HttpClientErrorCode, string])[] = [
  [/^ECONNREFUSED$/, 'connection_refused', 'nothing listens there. Is the service running, on this address and port?'],
  [/^(ENOTFOUND|EAI_AGAIN|EAI_FAIL)$/, 'name_not_found', 'the host name does not resolve to an address.'],
  [
    /^(EHOSTUNREACH|ENETUNREACH|ENETDOWN|EHOSTDOWN|EADDRNOTAVAIL)$/,
    'host_unreachable',
    'there is no route to that address.',
  ],
  [
    /^(ETIMEDOUT|UND_ERR_CONNECT_TIMEOUT)$/,
    'connect_timeout',
    'no connection within the time allowed. Is a firewall in between?',
  ],
  [
    /^(CERT_HAS_EXPIRED|CERT_NOT_YET_VALID)$/,
    'certificate_expired',
    "the server's certificate is not valid at this time. Renew it, or check the clocks.",
  ],
  [
    /^ERR_TLS_CERT_ALTNAME_INVALID$/,
    'host_name_mismatch',
    "the server's certificate is for other names than the one asked for.",
  ],
  [
    /ALERT_(UNKNOWN_CA|BAD_CERTIFICATE|CERTIFICATE_|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED|HANDSHAKE_FAILURE|DECRYPT_ERROR)/,
    'client_certificate_refused',
    'it refused our client certificate. Is the certificate of the CA that the other side trusts, and still valid?',
  ],
  [
    /^(UNABLE_TO_|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|CERT_|INVALID_|PATH_LENGTH_EXCEEDED|ERROR_IN_CERT|HOSTNAME_MISMATCH)/,
    'untrusted_certificate',
    "the server's certificate was not issued by a CA that is trusted here. Check the trusted CA setting.",
  ],
  [
    /^(EPROTO|ERR_SSL_|ERR_TLS_)/,
    'tls_failed',
    'the TLS handshake failed. Does the other side speak TLS 1.2 or newer on this port?',
  ],
  [
    /^(ECONNRESET|EPIPE|ECONNABORTED|UND_ERR_SOCKET)$/,
    'connection_closed',
    'it closed the connection without an answer. It may have refused our client certificate.',
  ],
  [/^UND_ERR_RES_EXCEEDED_MAX_SIZE$/, 'response_too_large', 'its answer is larger than allowed.'],
  [
    /^(HPE_|UND_ERR_HEADERS_OVERFLOW|UND_ERR_RES_CONTENT_LENGTH_MISMATCH|UND_ERR_HTTP_PARSER)/,
    'malformed_response',
    'its answer is not HTTP.',
  ],
  [
    /^(UND_ERR_DESTROYED|UND_ERR_CLOSED)$/,
    'client_closed',
    'the request was given up because this program is closing.',
  ],
];

/** `error` of a connection or request as what it means; one that has a meaning already keeps it. */
export function asHttpClientError(error: unknown, endpoint: string): HttpClientError {
  if (error instanceof HttpClientError) return error;
  const code = codeOf(error);
  const [, meaning, why] = MEANINGS.find(([pattern]) => pattern.test(code)) ?? [];
  if (meaning === undefined || why === undefined) {
    return new HttpClientError('request_failed', endpoint, `the request failed (${code || String(error)}).`, {
      cause: error,
    });
  }
  return new HttpClientError(meaning, endpoint, `${why} (${code})`, { cause: error });
}

function codeOf(error: unknown): string {
  if (error instanceof AggregateError) return codeOf(error.errors[0]); // one error for each address of a name
  if (!(error instanceof Error)) return '';
  const { code } = error as NodeJS.ErrnoException;
  if (error.name === 'HTTPParserError') return code ?? 'UND_ERR_HTTP_PARSER';
  return typeof code === 'string' ? code : '';
}
