import type { HttpClient } from './http-client.ts';

export type ReplaceableClient = HttpClient & {
  /** Sends new requests through `next`; the old client is closed once its requests are answered. */
  readonly replace: (next: HttpClient) => void;
};

/** A client whose certificate or CAs change while it is used: requests under way end as they began. */
export function replaceableClient(first: HttpClient): ReplaceableClient {
  type Use = { readonly client: HttpClient; busy: number };
  let current: Use = { client: first, busy: 0 };
  const closeIfIdle = (use: Use) => {
    if (use !== current && use.busy === 0) void use.client.close();
  };
  return {
    async request(request) {
      const use = current;
      use.busy += 1;
      try {
        return await use.client.request(request);
      } finally {
        use.busy -= 1;
        closeIfIdle(use);
      }
    },
    close: () => current.client.close(),
    replace(next) {
      const old = current;
      current = { client: next, busy: 0 };
      closeIfIdle(old);
    },
  };
}
