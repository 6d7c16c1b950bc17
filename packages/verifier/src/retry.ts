/** How often and how patiently something is tried again (06 section 1.5 of the reference). */
export type RetrySettings = {
  /** Attempts after the first one. */
  readonly maxRetries: number;
  readonly intervalSeconds: number;
  readonly exponential: boolean;
};

const CAP_MS = 60_000;

/** Nominal wait before retry `n` (from 1), in milliseconds: `interval^n` seconds, or the interval itself; at most 60 s. */
export function retryDelayMs({ intervalSeconds, exponential }: RetrySettings, n: number): number {
  const seconds = exponential && intervalSeconds > 1 ? intervalSeconds ** n : Math.abs(intervalSeconds);
  return Math.min(CAP_MS, Math.round(seconds * 1000));
}
