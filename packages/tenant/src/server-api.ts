import { type Envelope, parseEnvelope } from '@keylime/api/envelope';
import { API_VERSIONS, type ApiVersion, CURRENT_API_VERSION, negotiateApiVersion } from '@keylime/api/versions';
import { isJsonObject, type Json } from '@keylime/core/json';
import type { Log } from '@keylime/service/log';
import type { Connection, Method } from './connection.ts';
import { excerpt, jsonOf } from './output.ts';
import { TenantError } from './tenant-error.ts';

/** An answer of registrar or verifier. `envelope` is there if the body is `{code, status, results}`. */
export type Answer = {
  readonly status: number;
  readonly text: string;
  readonly json: Json | undefined;
  readonly envelope: Envelope<Json> | undefined;
};

/** The REST API (v2) of one registrar or verifier. */
export type ServerApi = {
  readonly kind: 'registrar' | 'verifier';
  readonly host: string;
  readonly port: string;
  /** Such as `Verifier (10.0.0.5:8881)`. */
  readonly label: string;
  /** One request to `/v<negotiated>` and `path`; the first one negotiates the version. */
  readonly call: (method: Method, path: string, body?: Json) => Promise<Answer>;
  /** Whether it answered the negotiation as a verifier does that agents push to (410); the first call negotiates. */
  readonly isPushedTo: () => Promise<boolean>;
};

export function answerOf({ status, text }: { readonly status: number; readonly text: string }): Answer {
  const json = jsonOf(text);
  return { status, text, json, envelope: parseEnvelope(json) as Envelope<Json> | undefined };
}

/** `results` of an answer if it is an object. */
export const resultsOf = ({ envelope }: Answer): { readonly [key: string]: Json } | undefined =>
  isJsonObject(envelope?.results) ? envelope.results : undefined;

/** What a verifier did as it was asked to, but thinks is hardly meant. */
export function warningsIn(answer: Answer): readonly string[] {
  const { warnings } = resultsOf(answer) ?? {};
  return Array.isArray(warnings) ? warnings.filter((one) => typeof one === 'string') : [];
}

/** A path segment from a name that a person chose. @throws TenantError for names that no server can store. */
export function segment(name: string): string {
  if (name === '' || name === '.' || name === '..') {
    throw new TenantError('invalid_argument', `"${name}" cannot be used as a name: choose one with letters or digits`);
  }
  return encodeURIComponent(name);
}

export function serverApi(options: {
  readonly kind: ServerApi['kind'];
  readonly host: string;
  readonly port: string;
  readonly id?: string | undefined;
  readonly connection: Connection;
  readonly log: Log;
}): ServerApi {
  const { kind, host, port, id, connection, log } = options;
  const label = `${kind === 'verifier' ? 'Verifier' : 'Registrar'}${id ? ` ${id}` : ''} (${host}:${port})`;
  let negotiated: ReturnType<typeof negotiate> | undefined;
  const negotiation = () => {
    negotiated ??= negotiate(kind, label, connection, log);
    return negotiated;
  };
  return {
    kind,
    host,
    port,
    label,
    async call(method, path, body) {
      const { version } = await negotiation();
      return answerOf(await connection.request(method, `/v${version}${path}`, body));
    },
    isPushedTo: async () => (await negotiation()).isPushedTo,
  };
}

/** Spec 01 section 1.4. A server that does not say what it speaks is spoken to in the current version. */
async function negotiate(
  kind: string,
  label: string,
  connection: Connection,
  log: Log,
): Promise<{ readonly version: ApiVersion; readonly isPushedTo: boolean }> {
  const answer = answerOf(await connection.request('GET', '/version'));
  const offered = resultsOf(answer)?.supported_versions;
  let version: ApiVersion = CURRENT_API_VERSION;
  if (answer.status === 200 && Array.isArray(offered)) {
    const common = negotiateApiVersion(offered.filter((one) => typeof one === 'string'));
    if (common === undefined) {
      const theirs = excerpt(offered.join(', '), 100);
      throw new TenantError(
        'no_common_version',
        `No compatible API version with ${label}: it speaks ${theirs}, this tenant ${API_VERSIONS.join(', ')}`,
      );
    }
    version = common;
  } else if (answer.status !== 410) {
    log.warn(`${label} did not say which API versions it speaks (${answer.status}): ${version} is tried`);
  }
  log.info(`Using API version ${version} for ${kind} communication`);
  return { version, isPushedTo: answer.status === 410 };
}

/** What the server said in an answer that was no success, in its own words. */
export function answerText(answer: Answer): string {
  if (answer.envelope) return excerpt(answer.envelope.status);
  const errors = isJsonObject(answer.json) ? answer.json.errors : undefined;
  const first: Json | undefined = Array.isArray(errors) ? errors[0] : undefined;
  if (isJsonObject(first) && typeof first.detail === 'string') return excerpt(first.detail);
  return excerpt(answer.text) || 'no explanation';
}

/** The error for an answer that nothing else explains. */
export function unexpectedAnswer(server: { readonly label: string }, doing: string, answer: Answer): TenantError {
  const hint =
    answer.status === 401 || answer.status === 403
      ? ': use a client certificate of its CA that is good for clientAuth (client_cert, client_key in tenant.conf)'
      : '';
  return new TenantError(
    'unexpected_answer',
    `${server.label} refused while ${doing}: ${answer.status} ${answerText(answer)}${hint}`,
  );
}
