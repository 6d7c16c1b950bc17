import { digest, type HashAlgorithm } from '@keylime/core/digest';
import { hintBytes } from '@keylime/event-log/coverage';
import { type EventToEncode, encodeEventLog, encodeSha1Log } from '@keylime/event-log/encode';
import type { BootEvent, EventLog } from '@keylime/event-log/event';

/** What an event will be after an update. `data` is as it is now where it is not given. */
export type EventChange = {
  readonly event: BootEvent;
  /** What it is of, for a person. */
  readonly what: string;
  readonly digests: ReadonlyMap<HashAlgorithm, Buffer>;
  readonly data?: Buffer;
};

/** Changes to the events of a log, collected in the order in which they are found. */
export type LogEdit = {
  readonly log: EventLog;
  readonly changes: EventChange[];
  readonly removed: Set<number>;
  /** New events, and the index of the event that they follow. */
  readonly added: { readonly after: number; readonly event: EventToEncode; readonly what: string }[];
  /** PCRs whose value cannot be told, and why. */
  readonly unknown: Map<number, string>;
  /** What the person who plans the update should know. */
  readonly notes: string[];
};

export const openEdit = (log: EventLog): LogEdit => ({
  log,
  changes: [],
  removed: new Set(),
  added: [],
  unknown: new Map(),
  notes: [],
});

/** Makes `event` one of something else, with the digests that `digestIn` gives for the banks that it has. */
export function changeEvent(
  edit: LogEdit,
  event: BootEvent,
  what: string,
  digestIn: (bank: HashAlgorithm) => Buffer,
  data?: Buffer,
): void {
  const digests = new Map(Array.from(event.digests.keys(), (bank) => [bank, digestIn(bank)]));
  edit.changes.push({ event, what, digests, ...(data !== undefined && { data }) });
}

export const hashOf =
  (...parts: readonly Uint8Array[]) =>
  (bank: HashAlgorithm): Buffer =>
    digest(bank, ...parts);

/** Whether `event` has the digest that `digestIn` gives, in all of its banks. */
export const hasDigest = (event: BootEvent, digestIn: (bank: HashAlgorithm) => Buffer): boolean =>
  event.digests.size > 0 &&
  Array.from(event.digests).every(([bank, found]) => digestIn(bank).toString('hex') === found);

/** The log as it will be. Its PCRs that are `unknown` are wrong. */
export function editedLog({ log, changes, removed, added }: LogEdit): Buffer {
  const changed = new Map(changes.map((change) => [change.event.index, change]));
  const events = log.events.flatMap((event): EventToEncode[] => {
    const new_ = added.filter(({ after }) => after === event.index).map((each) => each.event);
    const isSpecId = log.format === 'crypto_agile' && event.index === 0;
    if (isSpecId || removed.has(event.index)) return new_;
    const change = changed.get(event.index);
    const digests =
      change?.digests ?? new Map(Array.from(event.digests, ([bank, hex]) => [bank, Buffer.from(hex, 'hex')]));
    return [{ pcr: event.pcr, type: event.typeId, data: change?.data ?? hintBytes(event), digests }, ...new_];
  });
  return log.format === 'sha1' ? encodeSha1Log(events) : encodeEventLog(log.banks, events);
}
