import type { Clock } from './clock.ts';
import type { Delivery, Outbox } from './outbox.ts';

/** Delivers one notification; rejects if the receiver did not take it. */
export type Deliver = (delivery: Delivery) => Promise<void>;

export type NotifierSettings = {
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** First wait after a failure; doubles up to `maxWaitMs`. */
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
  /** A notification that could not be delivered for this long is given up, kept, and logged. */
  readonly giveUpAfterMs: number;
};

export type Notifier = {
  /** Looks into the outbox now: something was put there. */
  readonly wake: () => void;
  readonly close: () => Promise<void>;
};

export type NotifierReports = {
  readonly delivered: (delivery: Delivery) => void;
  readonly failed: (delivery: Delivery, error: unknown, nextAttemptAtMs: number | undefined) => void;
  /** The outbox itself could not be read or written; it is tried again. */
  readonly fault: (error: unknown) => void;
};

/**
 * Takes notifications from the outbox to their receivers: at least once, in order per agent, with growing waits. It never
 * holds up a verdict, and what it could not do it finds again after a restart.
 */
export function openNotifier(
  outbox: Outbox,
  deliver: Deliver,
  settings: NotifierSettings,
  clock: Clock,
  reports: NotifierReports,
): Notifier {
  let closed = false;
  let wanted = true;
  let cancelTimer: (() => void) | undefined;
  let running: Promise<void> | undefined;

  async function one(delivery: Delivery): Promise<void> {
    try {
      await deliver(delivery);
    } catch (error) {
      const wait = Math.min(settings.maxWaitMs, settings.firstWaitMs * 2 ** delivery.attempts);
      const next = clock.now() + wait;
      const nextAttemptAtMs = next - delivery.createdAtMs > settings.giveUpAfterMs ? undefined : next;
      await outbox.failed(delivery.sequence, error instanceof Error ? error.message : String(error), nextAttemptAtMs);
      reports.failed(delivery, error, nextAttemptAtMs);
      return;
    }
    await outbox.delivered(delivery.sequence);
    reports.delivered(delivery);
  }

  async function drain(): Promise<void> {
    try {
      while (wanted && !closed) {
        wanted = false;
        const due = await outbox.due(clock.now(), settings.concurrency);
        if (due.length > 0) {
          wanted = true;
          await Promise.all(due.map(one));
        }
      }
      const next = closed ? undefined : await outbox.nextDueMs();
      if (next !== undefined) sleep(Math.max(10, next - clock.now()));
    } catch (error) {
      wanted = false;
      reports.fault(error);
      sleep(settings.firstWaitMs);
    }
  }

  function sleep(delayMs: number): void {
    cancelTimer?.();
    if (!closed) cancelTimer = clock.after(Math.min(delayMs, settings.maxWaitMs), wake);
  }

  function wake(): void {
    wanted = true;
    if (closed || running !== undefined) return;
    running = drain().finally(() => {
      running = undefined;
      if (wanted) wake();
    });
  }

  return {
    wake,
    async close() {
      closed = true;
      cancelTimer?.();
      await running;
    },
  };
}
