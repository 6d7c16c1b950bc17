/**
 * The JSON object around every answer of registrar, verifier (v2) and agent (spec 01 section 2.1). `code` repeats the HTTP
 * status, `status` is text for people, `results` carries the data.
 */
export type Envelope<Results = unknown> = {
  readonly code: number;
  readonly status: string;
  readonly results: Results;
};

/** Reason phrases that stand in `status` when an answer has nothing more to say. 200 says "Success". */
const REASONS: { readonly [code: number]: string } = {
  200: 'Success',
  201: 'Created',
  202: 'Accepted',
  400: 'Bad Request',
  401: 'Unauthorized',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  408: 'Request Timeout',
  409: 'Conflict',
  410: 'Gone',
  413: 'Payload Too Large',
  415: 'Unsupported Media Type',
  422: 'Unprocessable Content',
  429: 'Too Many Requests',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
  503: 'Service Unavailable',
};

/** The text that stands for HTTP status `code`; a code without one says "Error" or "Success". */
export const reasonOf = (code: number): string => REASONS[code] ?? (code >= 400 ? 'Error' : 'Success');

/** An answer that carries `results`. */
export const success = <Results>(results: Results, code = 200, status = reasonOf(code)): Envelope<Results> => ({
  code,
  status,
  results,
});

/** An answer that says why a request was not done; `results` is the empty object that strict clients need. */
export const failure = (code: number, status = reasonOf(code)): Envelope<Record<string, never>> => ({
  code,
  status,
  results: {},
});

/**
 * Body of 401 and 403 answers of the permission layer, in every API version (spec 01 section 2.2). [compat] It has neither
 * `code` nor `results`; scripts look for the texts of section 3.3 in `detail`.
 */
export type PermissionErrors = {
  readonly errors: readonly { readonly status: string; readonly title: string; readonly detail: string }[];
};

/** The body of a 401 or 403 answer of the permission layer. */
export const permissionErrors = (code: 401 | 403, detail: string): PermissionErrors => ({
  errors: [{ status: String(code), title: reasonOf(code), detail }],
});

/**
 * A peer's answer as an envelope, or `undefined` if `value` is none. `results` is left as it is: agents send `null` on
 * success of a POST, and nothing in it is checked yet.
 */
export function parseEnvelope(value: unknown): Envelope | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined;
  const { code, status, results } = value as { readonly [key: string]: unknown };
  if (typeof code !== 'number' || !Number.isInteger(code) || typeof status !== 'string') return undefined;
  return { code, status, results: results ?? null };
}
