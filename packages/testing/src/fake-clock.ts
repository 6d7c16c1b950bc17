/** Time that moves only when a test says so. */
export type FakeClock = {
  readonly now: () => number;
  readonly monotonic: () => number;
  readonly after: (delayMs: number, wake: () => void) => () => void;
  /** Moves time on, waking whoever waits in order, and lets promises settle after each. */
  readonly advance: (ms: number) => Promise<void>;
  /** Those who wait. */
  readonly waiting: () => number;
};

/** Starts at `startMs` since the epoch. */
export function fakeClock(startMs = 1_700_000_000_000): FakeClock {
  let now = startMs;
  let order = 0;
  const timers = new Map<number, { readonly at: number; readonly wake: () => void }>();
  const settle = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));
  return {
    now: () => now,
    monotonic: () => now - startMs,
    after(delayMs, wake) {
      const id = ++order;
      timers.set(id, { at: now + Math.max(0, delayMs), wake });
      return () => timers.delete(id);
    },
    async advance(ms) {
      const end = now + ms;
      await settle();
      for (;;) {
        const next = [...timers].filter(([, { at }]) => at <= end).sort(([a, x], [b, y]) => x.at - y.at || a - b)[0];
        if (next === undefined) break;
        const [id, { at, wake }] = next;
        timers.delete(id);
        now = Math.max(now, at);
        wake();
        await settle();
      }
      now = end;
      await settle();
    },
    waiting: () => timers.size,
  };
}
