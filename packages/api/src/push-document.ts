import { isJsonObject, type Json } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { reasonOf } from './envelope.ts';

/** Path prefixes of the push protocol, API v3 (spec 05 section 1); agents use the second. */
export const PUSH_VERSIONS = ['3', '3.0'] as const;

/** What bodies of attestation routes are sent as. The existing verifier refuses everything else with 415. */
export const JSON_API = 'application/vnd.api+json';

/** A resource as it is received: nothing of `attributes` is checked yet. */
export type ReceivedResource = {
  readonly type: string;
  readonly id?: string;
  readonly attributes: { readonly [name: string]: Json };
};

/** Text of the reason phrase with which requests are refused that are no JSON:API documents. */
export const MALFORMED_REQUEST = 'Malformed Request Parameter';

const DOCUMENT_MEMBERS = ['data', 'links', 'meta', 'errors', 'jsonapi'];
const RESOURCE_MEMBERS = ['type', 'id', 'attributes', 'links', 'meta'];
const ATTRIBUTE_NAME = /^[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?$/;

/** The one resource in the body of a request, or what is wrong with the body (JSON:API 1.1; spec 05 section 2.1). */
export function parseResourceRequest(body: unknown): Parsed<ReceivedResource, string> {
  if (!isJsonObject(body)) return bad('the body must be a JSON object');
  const stray = Object.keys(body).find((name) => !DOCUMENT_MEMBERS.includes(name));
  if (stray !== undefined) return bad(`the document has an unknown member: ${JSON.stringify(stray).slice(0, 64)}`);
  const { data } = body;
  if (!isJsonObject(data)) return bad('data must be one resource object');
  const unknown = Object.keys(data).find((name) => !RESOURCE_MEMBERS.includes(name));
  if (unknown !== undefined) return bad(`the resource has an unknown member: ${JSON.stringify(unknown).slice(0, 64)}`);
  const { type, id, attributes } = data;
  if (typeof type !== 'string' || type === '') return bad('data.type must be text');
  if (id !== undefined && typeof id !== 'string') return bad('data.id must be text');
  if (!isJsonObject(attributes) || Object.keys(attributes).length === 0) {
    return bad('data.attributes must be an object that is not empty');
  }
  for (const [name, value] of Object.entries(attributes)) {
    if (!ATTRIBUTE_NAME.test(name)) return bad('an attribute has a name that JSON:API does not allow');
    if (value === null) return bad(`attribute ${name} is null`);
  }
  return good({ type, ...(id !== undefined && { id }), attributes });
}

/** The resource in an answer of a verifier, or `undefined`: unknown members are passed over, `null` attributes are kept. */
export function parseResourceAnswer(
  body: unknown,
): (ReceivedResource & { readonly meta: { readonly [name: string]: Json } }) | undefined {
  if (!isJsonObject(body) || !isJsonObject(body.data)) return undefined;
  const { type, id, attributes } = body.data;
  if (typeof type !== 'string' || !isJsonObject(attributes)) return undefined;
  const meta = isJsonObject(body.meta) ? body.meta : {};
  return { type, ...(typeof id === 'string' && { id }), attributes, meta };
}

/** The body of a request: `attributes` as one of the `*Attributes` types says. */
export const resourceRequest = (type: 'session' | 'attestation' | 'error', attributes: object, id?: string) => ({
  data: { type, ...(id !== undefined && { id }), attributes },
});

/** A resource in an answer; `self` is its path. */
export const resource = (type: 'session' | 'attestation', id: string, attributes: object, self?: string) => ({
  type,
  id,
  attributes,
  ...(self !== undefined && { links: { self } }),
});

/** The body of an answer: one resource, or a page of them. `self` is the path that was asked for. */
export const documentOf = (
  data: ReturnType<typeof resource> | readonly ReturnType<typeof resource>[],
  more: { readonly self?: string; readonly next?: string; readonly meta?: object } = {},
) => ({
  data,
  ...(more.meta && { meta: more.meta }),
  ...(more.self !== undefined && {
    links: { self: more.self, ...(more.next !== undefined && { next: more.next }) },
  }),
  jsonapi: { version: '1.1' },
});

/** Why an attestation route refused: `code` is for programs, `pointer` says where in the request it is about. */
export type PushProblem = {
  readonly status: 400 | 403 | 404 | 409 | 422 | 429 | 503;
  readonly code: string;
  readonly detail: string;
  readonly pointer?: string;
};

/** The body of an error of an attestation route (spec 05 section 2.2). */
export const problemDocument = ({ status, code, detail, pointer }: PushProblem) => ({
  errors: [{ status: String(status), code, detail, ...(pointer !== undefined && { source: { pointer } }) }],
  jsonapi: { version: '1.1' },
});

/** The body of an error of a session route, and of authentication and authorisation: without `code`. */
export const sessionProblemDocument = (status: number, detail: string) => ({
  errors: [{ status: String(status), title: reasonOf(status), detail }],
});

/** Code and detail of an error answer of either kind, for people; `undefined` if the body is none. */
export function problemText(body: unknown): string | undefined {
  const errors = isJsonObject(body) && Array.isArray(body.errors) ? body.errors : [];
  const [first] = errors.filter(isJsonObject);
  if (first === undefined) return undefined;
  const texts = [first.code, first.detail].filter((text): text is string => typeof text === 'string' && text !== '');
  return texts.length === 0 ? undefined : texts.join(': ');
}
