/** Options `exponential_backoff_*`: the delay doubles from the initial one up to the largest. */
export type Backoff = {
  readonly initialDelayMs: number;
  readonly maxRetries: number;
  readonly maxDelayMs: number;
};

/** Something that may be well in a while. `afterMs` is how long the other side wants to be left alone. */
export class RetryLater extends Error {
  override readonly name = 'RetryLater';
  readonly code = 'retry_later';
  readonly afterMs: number | undefined;

  constructor(message: string, options: ErrorOptions & { readonly afterMs?: number | undefined } = {}) {
    super(message, options);
    this.afterMs = options.afterMs;
  }
}

export type RetryHooks = {
  /** Waits, or throws when the program is stopping. */
  readonly sleep: (delayMs: number) => Promise<void>;
  readonly onRetry: (failure: RetryLater, delayMs: number) => void;
};

/**
 * Runs `attempt` until it returns, at most `maxRetries` times more after it threw `RetryLater`; then that error is thrown,
 * and any other error at once.
 */
export async function withRetries<T>(attempt: () => Promise<T>, backoff: Backoff, hooks: RetryHooks): Promise<T> {
  for (let retries = 0; ; retries++) {
    try {
      return await attempt();
    } catch (failure) {
      if (!(failure instanceof RetryLater) || retries >= backoff.maxRetries) throw failure;
      const delayMs = retryDelayMs(backoff, retries, failure.afterMs);
      hooks.onRetry(failure, delayMs);
      await hooks.sleep(delayMs);
    }
  }
}

/** Delay before retry `retries` (from 0). A wish of the other side counts up to the largest delay, no longer. */
export function retryDelayMs(
  { initialDelayMs, maxDelayMs }: Pick<Backoff, 'initialDelayMs' | 'maxDelayMs'>,
  retries: number,
  afterMs?: number,
): number {
  return Math.min(maxDelayMs, afterMs ?? initialDelayMs * 2 ** Math.min(retries, 40));
}

/**
 * A delay by chance, so that those who failed together do not come back together: half of `delayMs` to all of it, or up to a
 * tenth more where the other side asked to be left alone for that long.
 * @param random from 0 on, below 1.
 */
export const withJitter = (delayMs: number, afterMs: number | undefined, random = Math.random): number =>
  Math.round(afterMs === undefined ? delayMs * (0.5 + random() / 2) : delayMs * (1 + random() / 10));

/** Milliseconds from a `Retry-After` header (RFC 9110 section 10.2.3: seconds or a date), or `undefined`. */
export function parseRetryAfter(text: string | undefined, nowMs: number): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,9}$/.test(text.trim())) return Number(text) * 1000;
  const at = /^[A-Za-z]{3,9},? /.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}
