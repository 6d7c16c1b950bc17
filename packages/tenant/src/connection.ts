import type { Json } from '@keylime/core/json';

/** One HTTP answer. `text` is the body, decoded as UTF-8. */
export type HttpAnswer = { readonly status: number; readonly text: string };

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';

/**
 * Requests to one peer over one kind of trust. `request` throws `TenantError` with code `unreachable` if there was no
 * answer and `untrusted_peer` if the peer could not show who it is. Redirects are answers like others: none is followed.
 */
export type Connection = {
  readonly request: (method: Method, path: string, json?: Json) => Promise<HttpAnswer>;
  readonly close: () => Promise<void>;
};
