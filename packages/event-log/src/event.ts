import type { HashAlgorithm } from '@keylime/core/digest';
import type { SealedData } from './event-data.ts';
import type { EventType } from './event-type.ts';
import type { Quirk } from './quirks.ts';
import type { LogAlgorithm, SpecId } from './spec-id.ts';

/** PCR index of a remark that belongs to no PCR; only EV_NO_ACTION may have it. */
export const NO_PCR = 0xffff_ffff;
export const LAST_PCR = 23;

/**
 * One record of a log, as it claims to be: nothing of it is verified. Its data is sealed: `coveredData` of the event
 * `measuredIn` a bank opens what the bank's digest covers, `hintData` all of it, believed or not.
 */
export type BootEvent = {
  /** Position in the log; the Spec ID event counts and is 0. */
  readonly index: number;
  /** Bytes from the start of the log. */
  readonly offset: number;
  readonly pcr: number;
  /** The event type as a number: tells vendors' types apart. */
  readonly typeId: number;
  readonly type: EventType;
  /** Lower-case hex by bank. */
  readonly digests: ReadonlyMap<HashAlgorithm, string>;
  readonly quirks: readonly Quirk[];
  readonly sealed: SealedData;
};

/** What is wrong with a record, or with the log where it is. `offset` counts bytes from the start of the log. */
export type EventProblem = {
  readonly kind: /** No log at all. */
    | 'log_empty'
    | 'log_too_large'
    | 'too_many_events'
    | 'too_many_problems'
    /** The Spec ID event contradicts itself. */
    | 'spec_id_malformed'
    /** The record has no end that can be believed; up to the next event it was left out. */
    | 'record_malformed'
    /** A PCR that does not exist. */
    | 'pcr_unknown'
    /** The record is whole, its data is not what its type says. The event is in the list. */
    | 'data_malformed';
  readonly index: number;
  readonly offset: number;
  readonly field: string;
  readonly problem: string;
};

/** A decoded log. */
export type EventLog = {
  readonly format: 'sha1' | 'crypto_agile';
  /** Of a crypto-agile log whose first event can be read. */
  readonly specId: SpecId | undefined;
  /** All algorithms of the log, those included whose digests are only skipped. */
  readonly algorithms: readonly LogAlgorithm[];
  /** The algorithms whose banks can be replayed, in the order of the log. */
  readonly banks: readonly HashAlgorithm[];
  readonly events: readonly BootEvent[];
  readonly problems: readonly EventProblem[];
};
