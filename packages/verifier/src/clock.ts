/** Time and waiting, passed in so that the engine runs under a fake clock in tests. */
export type Clock = {
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Milliseconds that never go back, of no fixed origin. */
  readonly monotonic: () => number;
  /** Calls `wake` once after `delayMs`; the result cancels it. */
  readonly after: (delayMs: number, wake: () => void) => () => void;
};

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after: (delayMs, wake) => {
    const timer = setTimeout(wake, delayMs);
    return () => clearTimeout(timer);
  },
};
