import { type Backoff, retryDelayMs } from './retry.ts';

/** What could not be done yet and is tried again, each machine by itself, in the order in which it came. */
export type Retries<T> = {
  readonly size: () => number;
  /** Whether something about this machine waits: what comes later must not overtake it. */
  readonly hasMachine: (machine: string) => boolean;
  /** Puts `item` at the end of the line of its machine. */
  readonly add: (machine: string, item: T) => void;
  /** The head of the line that has waited longest for its turn, or `undefined` if none is due. */
  readonly due: () => { readonly machine: string; readonly item: T } | undefined;
  /** Takes the head of this line away; the next of it is due at once. */
  readonly succeeded: (machine: string) => void;
  /** The head of this line is due again after a longer time. */
  readonly failed: (machine: string) => void;
  /** Milliseconds until something is due; `undefined` if nothing waits. */
  readonly nextInMs: () => number | undefined;
  /** All heads are due now. */
  readonly hurry: () => void;
};

type Line<T> = { readonly items: T[]; retries: number; dueAtMs: number };

/** @param now milliseconds of a clock that is never set. */
export function openRetries<T>(backoff: Omit<Backoff, 'maxRetries'>, now: () => number): Retries<T> {
  const lines = new Map<string, Line<T>>();
  const delayMs = (retries: number) => retryDelayMs(backoff, retries);
  const first = () => [...lines].reduce((a, b) => (b[1].dueAtMs < a[1].dueAtMs ? b : a));
  return {
    size: () => [...lines.values()].reduce((sum, { items }) => sum + items.length, 0),
    hasMachine: (machine) => lines.has(machine),
    add(machine, item) {
      const line = lines.get(machine);
      if (line === undefined) lines.set(machine, { items: [item], retries: 0, dueAtMs: now() + delayMs(0) });
      else line.items.push(item);
    },
    due() {
      if (lines.size === 0) return undefined;
      const [machine, { items, dueAtMs }] = first();
      const [item] = items;
      return item === undefined || dueAtMs > now() ? undefined : { machine, item };
    },
    succeeded(machine) {
      const line = lines.get(machine);
      line?.items.shift();
      if (line === undefined || line.items.length === 0) lines.delete(machine);
      else lines.set(machine, { items: line.items, retries: 0, dueAtMs: now() });
    },
    failed(machine) {
      const line = lines.get(machine);
      if (line !== undefined) line.dueAtMs = now() + delayMs(++line.retries);
    },
    nextInMs: () => (lines.size === 0 ? undefined : Math.max(0, first()[1].dueAtMs - now())),
    hurry() {
      for (const line of lines.values()) line.dueAtMs = now();
    },
  };
}
