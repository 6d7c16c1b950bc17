import { JSON_API, problemText } from '@keylime/api/push-document';
import { type Json, parseJson } from '@keylime/core/json';
import type { AgentConfig } from '@keylime/service/config';
import { type HttpClient, openServerClient } from '@keylime/service/http-client';
import { HttpClientError } from '@keylime/service/http-client-error';
import type { HttpAnswer } from '@keylime/service/http-exchange';
import { PushError } from './push-error.ts';
import { readCertificatesOf } from './readable-file.ts';
import { parseRetryAfter } from './retry.ts';

/** A measurement list of some megabytes takes a while to send, and a busy verifier to read. */
const TIMEOUT_MS = 30_000;

export type VerifierAnswer = {
  readonly status: number;
  readonly body: Json | undefined;
  readonly location: string | undefined;
  /** Status and what the verifier says is wrong, for people. */
  readonly text: string;
};

/**
 * Sends a request, with `token` if there is one. An answer of any status is a result, but for those that say "not now".
 * @throws PushError `verifier_unreachable`, `verifier_busy`; an `AbortError` when the agent is stopping.
 */
export type VerifierRequest = (request: {
  readonly method: 'POST' | 'PATCH';
  readonly path: string;
  readonly json: unknown;
  readonly token?: string | undefined;
}) => Promise<VerifierAnswer>;

export type VerifierClient = { readonly request: VerifierRequest; readonly close: () => Promise<void> };

/**
 * The way to the verifier. [MUST] It trusts the CAs of `verifier_tls_ca_cert` only, and shows no certificate: one of the CA
 * for administrators would make an administrator of this machine (spec 05 section 1). The CA's file is read again when the
 * verifier's certificate is of no CA that is known.
 */
export function openVerifierClient(
  config: Pick<AgentConfig, 'verifier_url' | 'verifier_tls_ca_cert' | 'tls_accept_invalid_hostnames'>,
  signal: AbortSignal,
): VerifierClient {
  const { verifier_url: url, verifier_tls_ca_cert: caFile, tls_accept_invalid_hostnames: takesAnyName } = config;
  let client: HttpClient | undefined;
  const open = async () => {
    client ??= openServerClient({
      baseUrl: url,
      caPems: [await readCertificatesOf('verifier_tls_ca_cert', caFile)],
      checkHostName: !takesAnyName,
      timeoutMs: TIMEOUT_MS,
      connections: 1,
    });
    return client;
  };

  const request: VerifierRequest = async ({ method, path, json, token }) => {
    const headers = { 'content-type': JSON_API, ...(token !== undefined && { authorization: `Bearer ${token}` }) };
    let answer: HttpAnswer;
    try {
      answer = await (await open()).request({ method, path, json, headers, signal });
    } catch (cause) {
      signal.throwIfAborted();
      if (!(cause instanceof HttpClientError)) throw cause;
      if (cause.code === 'untrusted_certificate') await close();
      throw new PushError('verifier_unreachable', `The verifier cannot be reached: ${cause.message}`, { cause });
    }
    const body = parseJson(answer.body.toString('utf8'));
    const problem = problemText(body)?.slice(0, 500) ?? '';
    // [MUST] No token in a log, not even when something on the way sends back what it was sent.
    const said = token === undefined ? problem : problem.replaceAll(token, '[token]');
    const text = `${answer.code} ${said}`.trim();
    const { code: status, headers: answered } = answer;
    if (status >= 500 || status === 408 || status === 429) {
      const afterMs = parseRetryAfter(answered['retry-after'], Date.now());
      throw new PushError('verifier_busy', `The verifier cannot answer now: ${text}`, { afterMs });
    }
    return { status, body, location: answered.location, text };
  };
  const close = async () => {
    const old = client;
    client = undefined;
    await old?.close();
  };
  return { request, close };
}
