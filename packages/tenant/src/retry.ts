import { setTimeout as sleep } from 'node:timers/promises';

export type RetrySettings = {
  /** Attempts in total, at least 1. */
  readonly attempts: number;
  readonly intervalSeconds: number;
  readonly exponential: boolean;
  readonly sleep?: (ms: number) => Promise<unknown>;
};

const CAP_SECONDS = 300;

/** Seconds to wait after failed attempt `n` (from 1): `interval^n`, or the interval itself; at most five minutes. */
export const retrySeconds = ({ intervalSeconds, exponential }: RetrySettings, n: number): number =>
  Math.min(CAP_SECONDS, exponential && intervalSeconds > 1 ? intervalSeconds ** n : Math.abs(intervalSeconds));

/**
 * Calls `attempt` until it returns something else than `again`, waiting in between; `undefined` if it never did.
 * `failed` hears of every attempt that is followed by another, with the wait in seconds.
 */
export async function withRetries<T extends object>(
  settings: RetrySettings,
  attempt: () => Promise<T | 'again'>,
  failed: (n: number, seconds: number) => void,
): Promise<{ readonly value: T; readonly failures: number } | undefined> {
  for (let n = 1; ; n++) {
    const value = await attempt();
    if (value !== 'again') return { value, failures: n - 1 };
    if (n >= settings.attempts) return undefined;
    const seconds = retrySeconds(settings, n);
    failed(n, seconds);
    await (settings.sleep ?? sleep)(seconds * 1000);
  }
}
