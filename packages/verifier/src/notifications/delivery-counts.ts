import type { Channel } from './outbox.ts';

/** What became of attempts to deliver. On the channel `agent` one for each peer. */
export type Attempts = { readonly delivered: number; readonly failed: number };

/** Counts attempts on each channel for as long as the process runs. */
export type DeliveryCounts = {
  readonly since: Date;
  readonly add: (channel: Channel, became: keyof Attempts) => void;
  readonly of: (channel: string) => Attempts;
};

export function deliveryCounts(since: Date): DeliveryCounts {
  const counts = new Map<string, Attempts>();
  const of = (channel: string) => counts.get(channel) ?? { delivered: 0, failed: 0 };
  return {
    since,
    of,
    add(channel, became) {
      const before = of(channel);
      counts.set(channel, { ...before, [became]: before[became] + 1 });
    },
  };
}
