import type { AgentId } from '@keylime/core/agent-id';
import type { Clock } from './clock.ts';
import { type DueQueue, dueQueue } from './due-queue.ts';

/** Does one round with an agent and says in how many milliseconds the next one is due; `undefined` ends it. */
export type Round = (id: AgentId) => Promise<{ readonly nextDelayMs: number | undefined; readonly healthy: boolean }>;

export type SchedulerSettings = {
  /** Rounds under way at once with agents that answered the last time. */
  readonly maxHealthy: number;
  /** And with agents that did not: their time-outs must not take the place of the healthy ones. */
  readonly maxUnhealthy: number;
};

type Entry = {
  readonly id: AgentId;
  /** Grows with every wish to ask at another time: a wake-up or a result of an older wish is void. */
  generation: number;
  running: boolean;
  healthy: boolean;
  /** Set while a round runs: start the next one at once, whatever the round says. */
  again: boolean;
};

export type Scheduler = {
  /** Asks this agent in `delayMs`, whatever was planned. While a round is under way, again after it. */
  readonly schedule: (id: AgentId, delayMs: number) => void;
  readonly forget: (id: AgentId) => void;
  readonly size: () => number;
  /** Rounds under way. */
  readonly inFlight: () => number;
  /** How late the most overdue agent is, in milliseconds: the visible sign of overload. */
  readonly lagMs: () => number;
  /** Starts no more rounds and resolves when those under way are done. */
  readonly close: () => Promise<void>;
};

/** A round that lasts longer no longer takes a healthy agent's place: who answers, answers in less. */
const PATIENCE_MS = 1000;
/** Rounds, with connections, that may be under way beyond `maxUnhealthy` for that reason. */
const MOST_OVERDUE = 4096;

/** A round under way, and the lane in which it counts. */
type Running = { lane: Lane; readonly since: number };
type Lane = {
  readonly limit: number;
  /** In the order in which they began. */
  readonly rounds: Set<Running>;
  readonly queue: DueQueue<{ readonly entry: Entry; readonly generation: number }>;
};

/**
 * Decides who is asked next. One round per agent at a time; agents that stopped answering wait in a lane of their own, so
 * that a thousand of them do not delay one healthy agent, not even when they all stop at the same moment. A round that throws is a fault of ours: it is retried after a
 * second and never becomes a verdict.
 */
export function openScheduler(
  round: Round,
  settings: SchedulerSettings,
  clock: Clock,
  onFault: (id: AgentId, fault: unknown) => void,
): Scheduler {
  const entries = new Map<AgentId, Entry>();
  const lanes = { healthy: lane(settings.maxHealthy), unhealthy: lane(settings.maxUnhealthy) };
  let cancelTimer: (() => void) | undefined;
  let timerAt = Number.POSITIVE_INFINITY;
  let closed = false;
  let drained: (() => void) | undefined;

  function lane(limit: number): Lane {
    return { limit, rounds: new Set(), queue: dueQueue() };
  }
  const laneOf = (entry: Entry) => (entry.healthy ? lanes.healthy : lanes.unhealthy);
  const inFlight = () => lanes.healthy.rounds.size + lanes.unhealthy.rounds.size;

  function plan(entry: Entry, delayMs: number): void {
    entry.generation++;
    laneOf(entry).queue.push(clock.monotonic() + delayMs, { entry, generation: entry.generation });
    pump();
  }

  /** Starts what is due and there is room for, and sets the timer for the next that has room. */
  function pump(): void {
    if (closed) return;
    const now = clock.monotonic();
    let next = Number.POSITIVE_INFINITY;
    for (const current of Object.values(lanes)) {
      for (;;) {
        const first = current.queue.peek();
        if (first === undefined) break;
        if (first.value.generation !== first.value.entry.generation) {
          current.queue.pop();
          continue;
        }
        const at = first.due > now ? first.due : roomAt(current, now);
        if (at > now) {
          next = Math.min(next, at);
          break;
        }
        current.queue.pop();
        start(first.value.entry);
      }
    }
    if (next === timerAt) return;
    cancelTimer?.();
    timerAt = next;
    cancelTimer =
      next === Number.POSITIVE_INFINITY
        ? undefined
        : clock.after(Math.max(0, next - now), () => {
            timerAt = Number.POSITIVE_INFINITY;
            pump();
          });
  }

  /** When there is room for another round in the lane; infinity: not before one of its rounds ends. */
  function roomAt(current: Lane, now: number): number {
    if (current.rounds.size < current.limit) return now;
    const [oldest] = current.rounds;
    const { unhealthy } = lanes;
    const mayMove = current !== unhealthy && unhealthy.rounds.size < unhealthy.limit + MOST_OVERDUE;
    if (oldest === undefined || !mayMove) return Number.POSITIVE_INFINITY;
    if (now - oldest.since < PATIENCE_MS) return oldest.since + PATIENCE_MS;
    current.rounds.delete(oldest);
    unhealthy.rounds.add(oldest);
    oldest.lane = unhealthy;
    return now;
  }

  function start(entry: Entry): void {
    const running: Running = { lane: laneOf(entry), since: clock.monotonic() };
    running.lane.rounds.add(running);
    entry.running = true;
    entry.again = false;
    const { generation } = entry;
    round(entry.id)
      .catch((fault: unknown) => {
        // Who was forgotten meanwhile had its connection closed under the round.
        if (entries.get(entry.id) === entry) onFault(entry.id, fault);
        return { nextDelayMs: 1000, healthy: entry.healthy };
      })
      .then(({ nextDelayMs, healthy }) => {
        running.lane.rounds.delete(running);
        entry.running = false;
        entry.healthy = healthy;
        if (entry.generation === generation && entries.get(entry.id) === entry) {
          if (entry.again) plan(entry, 0);
          else if (nextDelayMs === undefined) entries.delete(entry.id);
          else plan(entry, nextDelayMs);
        }
        if (closed) {
          if (inFlight() === 0) drained?.();
        } else pump();
      });
  }

  return {
    schedule(id, delayMs) {
      let entry = entries.get(id);
      if (entry === undefined) {
        entry = { id, generation: 0, running: false, healthy: true, again: false };
        entries.set(id, entry);
      }
      if (entry.running) entry.again = true;
      else plan(entry, delayMs);
    },
    forget(id) {
      const entry = entries.get(id);
      if (entry === undefined) return;
      entry.generation++;
      entries.delete(id);
    },
    size: () => entries.size,
    inFlight,
    lagMs: () => {
      const now = clock.monotonic();
      return Math.max(0, ...Object.values(lanes).map(({ queue }) => now - (queue.peek()?.due ?? now)));
    },
    close() {
      closed = true;
      cancelTimer?.();
      return new Promise((resolve) => {
        drained = resolve;
        if (inFlight() === 0) resolve();
      });
    },
  };
}
