/** `burst` requests at once, then `perMinute` of them. */
export type Rate = { readonly burst: number; readonly perMinute: number };

export type RateLimiter = {
  /** Counts a request of `key`: `undefined` if it may go on, else the seconds after which it may be tried again. */
  readonly take: (key: string) => number | undefined;
  /** Takes back that a request of `key` was counted. */
  readonly giveBack: (key: string) => void;
};

/**
 * A token bucket for each key. At most `maxKeys` are remembered; the one that was quiet for longest is forgotten first.
 * `now` gives milliseconds.
 */
export function rateLimiter(options: {
  readonly rate: Rate;
  readonly now: () => number;
  readonly maxKeys?: number;
}): RateLimiter {
  const { rate, now, maxKeys = 50_000 } = options;
  const perMs = rate.perMinute / 60_000;
  const buckets = new Map<string, { readonly tokens: number; readonly at: number }>();
  return {
    take(key) {
      const time = now();
      const bucket = buckets.get(key) ?? { tokens: rate.burst, at: time };
      const tokens = Math.min(rate.burst, bucket.tokens + (time - bucket.at) * perMs);
      const allowed = tokens >= 1;
      buckets.delete(key); // so that the map is ordered by last use
      buckets.set(key, { tokens: allowed ? tokens - 1 : tokens, at: time });
      const oldest = buckets.size > maxKeys ? buckets.keys().next().value : undefined;
      if (oldest !== undefined) buckets.delete(oldest);
      return allowed ? undefined : Math.max(1, Math.ceil((1 - tokens) / perMs / 1000));
    },
    giveBack(key) {
      const bucket = buckets.get(key);
      if (bucket !== undefined) buckets.set(key, { ...bucket, tokens: Math.min(rate.burst, bucket.tokens + 1) });
    },
  };
}

/**
 * What counts as one address: IPv4 as it is, also when mapped into IPv6; of IPv6 the first 64 bits, since a host can use
 * all the others.
 */
export function addressKey(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1];
  if (mapped !== undefined) return mapped;
  const [bare = ''] = address.split('%');
  if (!bare.includes(':')) return bare;
  const [head = '', tail] = bare.split('::');
  const groups = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = tail === undefined ? 0 : 8 - groups.length - last.length;
  const all = [...groups, ...Array.from({ length: Math.max(0, zeros) }, () => '0'), ...last];
  return `${all
    .slice(0, 4)
    .map((group) => Number.parseInt(group, 16).toString(16))
    .join(':')}::/64`;
}
