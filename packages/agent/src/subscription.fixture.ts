import { type Log, openLog } from '@keylime/service/log';
import type { Revocations } from './revocations.ts';

/** Stands where a subscription hands over what it received, and hears what it says. */
export type Receiver = {
  readonly offered: readonly unknown[];
  readonly revocations: Pick<Revocations, 'offer'>;
  readonly log: Log;
  /** Resolves when the condition holds; it is looked at whenever something was offered or said. */
  readonly until: (condition: () => boolean) => Promise<void>;
  readonly said: (pattern: RegExp) => Promise<void>;
  /** Without room offers are turned away. */
  readonly setRoom: (value: boolean) => void;
};

export function openReceiver(): Receiver {
  const offered: unknown[] = [];
  const waiting = new Set<() => void>();
  let output = '';
  let hasRoom = true;
  const look = () => {
    for (const one of waiting) one();
  };
  const until = (condition: () => boolean) =>
    new Promise<void>((resolve) => {
      const one = () => {
        if (!condition()) return;
        waiting.delete(one);
        resolve();
      };
      waiting.add(one);
      one();
    });
  const write = (line: string) => {
    output += line;
    look();
  };
  return {
    offered,
    revocations: {
      offer: async (message) => {
        if (!hasRoom) return false;
        offered.push(message);
        look();
        return true;
      },
    },
    log: openLog({ name: 'agent', destination: { write } }),
    until,
    said: (pattern) => until(() => pattern.test(output)),
    setRoom: (value) => {
      hasRoom = value;
    },
  };
}
