import { CodedError } from '@keylime/core/coded-error';
import type { Clock } from '../clock.ts';
import type { Delivery, Outbox } from './outbox.ts';

/** Delivers one notification; rejects if the receiver did not take it. */
export type Deliver = (delivery: Delivery) => Promise<void>;

/** A delivery that no later attempt can mend: it is given up at once, and kept. */
export class UndeliverableError extends CodedError<'undeliverable'> {
  constructor(message: string, options?: ErrorOptions) {
    super('undeliverable', message, options);
  }
}

export type NotifierSettings = {
  /** Deliveries under way at once. */
  readonly concurrency: number;
  /** First wait after a failure; doubles up to `maxWaitMs`. */
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
  /** Attempts, not time: a clock that is set forward gives nothing up. What is given up is kept, and told. */
  readonly giveUpAfterAttempts: number;
};

export type Notifier = {
  /** Looks into the outbox now: something was put there. */
  readonly wake: () => void;
  /** Starts no more deliveries, and resolves when those under way have ended. */
  readonly close: () => Promise<void>;
};

export type NotifierReports = {
  readonly delivered: (delivery: Delivery) => void;
  readonly failed: (delivery: Delivery, error: unknown, nextAttemptAtMs: number | undefined) => void;
  /** The outbox itself could not be read or written; it is tried again. */
  readonly fault: (error: unknown) => void;
};

/**
 * Takes notifications from the outbox to their receivers: at least once, in order per agent, with growing waits. A receiver
 * that answers slowly holds up nobody else, and nobody holds up a verdict. What it could not do it finds again after a
 * restart.
 */
export function openNotifier(
  outbox: Outbox,
  deliver: Deliver,
  settings: NotifierSettings,
  clock: Clock,
  reports: NotifierReports,
): Notifier {
  const underWay = new Map<number, Promise<void>>();
  let closed = false;
  let wanted = false;
  let cancelTimer: (() => void) | undefined;
  let looking: Promise<void> | undefined;
  /** Times in a row that the outbox could not be used. */
  let faults = 0;

  async function one(delivery: Delivery): Promise<void> {
    try {
      await deliver(delivery);
    } catch (error) {
      const wait = Math.min(settings.maxWaitMs, settings.firstWaitMs * 2 ** delivery.attempts);
      const isOver = error instanceof UndeliverableError || delivery.attempts + 1 >= settings.giveUpAfterAttempts;
      const nextAttemptAtMs = isOver ? undefined : clock.now() + wait;
      await outbox.failed(delivery.sequence, error instanceof Error ? error.message : String(error), nextAttemptAtMs);
      reports.failed(delivery, error, nextAttemptAtMs);
      return;
    }
    await outbox.delivered(delivery.sequence);
    reports.delivered(delivery);
  }

  function begin(delivery: Delivery): void {
    const work = one(delivery)
      .then(() => true)
      .catch((error: unknown) => {
        reports.fault(error);
        return false;
      })
      .then((done) => {
        underWay.delete(delivery.sequence);
        // An outbox that cannot be written is not asked again at once: its answer would be the same delivery.
        if (!done) return sleep(faultWaitMs());
        faults = 0;
        wake();
      });
    underWay.set(delivery.sequence, work);
  }

  async function look(): Promise<void> {
    try {
      while (wanted && !closed && underWay.size < settings.concurrency) {
        wanted = false;
        const sequences = [...underWay.keys()];
        const due = await outbox.due(clock.now(), settings.concurrency - underWay.size, sequences);
        if (closed) return;
        for (const delivery of due) begin(delivery);
        if (due.length > 0) continue;
        const next = await outbox.nextDueMs(sequences);
        if (next !== undefined) sleep(Math.max(10, next - clock.now()));
      }
    } catch (error) {
      wanted = false;
      reports.fault(error);
      sleep(faultWaitMs());
    }
  }

  /** While the outbox cannot be written a receiver is told the same again and again: more and more rarely. */
  const faultWaitMs = () => Math.min(settings.maxWaitMs, settings.firstWaitMs * 2 ** faults++);

  function sleep(delayMs: number): void {
    cancelTimer?.();
    if (!closed) cancelTimer = clock.after(Math.min(delayMs, settings.maxWaitMs), wake);
  }

  function wake(): void {
    wanted = true;
    if (closed || looking !== undefined) return;
    looking = look().finally(() => {
      looking = undefined;
      if (wanted && underWay.size < settings.concurrency) wake();
    });
  }

  return {
    wake,
    async close() {
      closed = true;
      cancelTimer?.();
      await looking;
      await Promise.all(underWay.values());
    },
  };
}
