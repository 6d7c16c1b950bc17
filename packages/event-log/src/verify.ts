import type { Brand } from '@keylime/core/brand';
import { digest, extend, type HashAlgorithm } from '@keylime/core/digest';
import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { type MeasuredEvent, measuredIn } from './coverage.ts';
import type { BootEvent, EventLog, EventProblem } from './event.ts';
import { initialPcr, replayBank, startupLocality } from './replay.ts';

/** PCR values of a verified quote: those of its signed selection and no others. */
export type QuotedPcrs = { readonly bank: HashAlgorithm; readonly pcrs: ReadonlyMap<number, Buffer> };

/** Values in lower-case hex: `expected` from the log, `found` in the quote. */
export type PcrComparison = {
  readonly pcr: number;
  readonly expected: string;
  readonly found: string;
  readonly matches: boolean;
};

export type EventLogFailure =
  /** A record that cannot be read, so that the log is not all there is. */
  | { readonly kind: 'measured_boot_log_malformed'; readonly problem: EventProblem }
  | {
      readonly kind: 'measured_boot_bank_missing';
      readonly bank: HashAlgorithm;
      readonly banks: readonly HashAlgorithm[];
    }
  | { readonly kind: 'measured_boot_pcr_not_quoted'; readonly pcr: number }
  | {
      readonly kind: 'measured_boot_pcr_mismatch';
      readonly pcr: number;
      readonly expected: string;
      readonly found: string;
    };

/** A log that leads to the quoted values of `pcrs`. Only `verifyEventLog` makes one. */
export type VerifiedEventLog = Brand<
  {
    readonly bank: HashAlgorithm;
    /** The PCRs that were compared, with their quoted values. */
    readonly pcrs: ReadonlyMap<number, Buffer>;
    /** The events that extended these PCRs, in the log's order. Order between different PCRs is not vouched for. */
    readonly events: readonly MeasuredEvent[];
    /** EV_NO_ACTION events: nothing vouches for them. */
    readonly remarks: readonly BootEvent[];
    /** Events whose data is not what their type says; the events are among the others. */
    readonly problems: readonly EventProblem[];
    /** What the firmware extended PCR 5 with for ExitBootServices but did not log. Empty on good firmware. */
    readonly unloggedActions: readonly string[];
    /** The phases of user space that systemd extended PCR 11 with after the boot that is logged. */
    readonly unloggedPhases: readonly string[];
  },
  'VerifiedEventLog'
>;

export type EventLogVerification =
  | { readonly ok: true; readonly log: VerifiedEventLog; readonly comparison: readonly PcrComparison[] }
  | {
      readonly ok: false;
      readonly failures: NonEmpty<EventLogFailure>;
      /** The PCRs that could be compared. */
      readonly comparison: readonly PcrComparison[];
    };

export type VerifyOptions = {
  /**
   * Whether PCR 5 may also be what it would be had ExitBootServices been logged, for firmware that measures it without
   * logging it. `accept` if not given.
   */
  readonly unloggedExitBootServices?: 'accept' | 'refuse';
};

/**
 * Compares a log with a quote: replays it in the bank of the quote and demands that every PCR of `pcrs` is quoted and has
 * the value that the log leads to. Reports every PCR that has not. A PCR that the log does not touch must have its initial
 * value.
 */
export function verifyEventLog(
  log: EventLog,
  quote: QuotedPcrs,
  pcrs: readonly number[],
  options: VerifyOptions = {},
): EventLogVerification {
  const { bank } = quote;
  const failures: EventLogFailure[] = log.problems
    .filter(({ kind }) => kind !== 'data_malformed')
    .map((problem) => ({ kind: 'measured_boot_log_malformed', problem }));
  if (!log.banks.includes(bank)) failures.push({ kind: 'measured_boot_bank_missing', bank, banks: log.banks });

  const replayed = replayBank(log, bank);
  const locality = startupLocality(log);
  const matching = new Map<number, Buffer>();
  const comparison: PcrComparison[] = [];
  let unloggedActions: readonly string[] = [];
  let unloggedPhases: readonly string[] = [];
  for (const pcr of new Set(pcrs)) {
    const found = quote.pcrs.get(pcr);
    if (found === undefined) {
      failures.push({ kind: 'measured_boot_pcr_not_quoted', pcr });
      continue;
    }
    const expected = replayed.get(pcr) ?? initialPcr(bank, pcr, locality);
    let matches = expected.equals(found);
    if (!matches && pcr === EXIT_BOOT_SERVICES_PCR && options.unloggedExitBootServices !== 'refuse') {
      const actions = extendsBetween(bank, expected, found, UNLOGGED_ACTIONS);
      matches = actions !== undefined;
      unloggedActions = actions ?? [];
    }
    if (!matches && pcr === PHASE_PCR) {
      const phases = extendsBetween(bank, expected, found, UNLOGGED_PHASES);
      matches = phases !== undefined;
      unloggedPhases = phases ?? [];
    }
    const values = { pcr, expected: expected.toString('hex'), found: found.toString('hex') };
    comparison.push({ ...values, matches });
    if (matches) matching.set(pcr, found);
    else failures.push({ kind: 'measured_boot_pcr_mismatch', ...values });
  }
  if (isNonEmpty(failures)) return { ok: false, failures, comparison };

  const events = log.events.flatMap((event) => (matching.has(event.pcr) ? (measuredIn(event, bank) ?? []) : []));
  const remarks = log.events.filter(({ type }) => type === 'EV_NO_ACTION');
  const verified = { bank, pcrs: matching, events, remarks, problems: log.problems, unloggedActions, unloggedPhases };
  return { ok: true, log: verified as unknown as VerifiedEventLog, comparison };
}

const EXIT_BOOT_SERVICES_PCR = 5;
const INVOCATION = 'Exit Boot Services Invocation';
const SUCCESS = 'Exit Boot Services Returned with Success';
const FAILURE = 'Exit Boot Services Returned with Failure';

/** What some firmware leaves out of its log at the end of boot services. */
const UNLOGGED_ACTIONS: readonly (readonly string[])[] = [
  [INVOCATION, SUCCESS],
  [INVOCATION, FAILURE],
  [INVOCATION, FAILURE, SUCCESS],
];

const PHASE_PCR = 11;

/**
 * What systemd tells PCR 11 of a machine that started a unified kernel image, one after the other until it is switched off;
 * the first two only where there is an initrd. They are logged elsewhere. Source: systemd-pcrphase.service(8), systemd 255.
 */
const PHASES: readonly string[] = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready', 'shutdown', 'final'];

const UNLOGGED_PHASES: readonly (readonly string[])[] = [PHASES, PHASES.slice(2)].flatMap((phases) =>
  phases.map((_, last) => phases.slice(0, last + 1)),
);

/** The first of `sequences` of texts whose digests lead a PCR from one value to another. */
const extendsBetween = (
  bank: HashAlgorithm,
  from: Buffer,
  to: Buffer,
  sequences: readonly (readonly string[])[],
): readonly string[] | undefined =>
  sequences.find((texts) =>
    texts.reduce((value, text) => extend(bank, value, digest(bank, Buffer.from(text))), from).equals(to),
  );

/**
 * What IMA may have measured as `boot_aggregate`: lower-case hex of H(PCR 0 to 7), and of H(PCR 0 to 9) since Linux 5.8,
 * where all of these PCRs were compared with the quote. Source: Linux security/integrity/ima/ima_crypto.c.
 */
export function bootAggregates(log: VerifiedEventLog): readonly string[] {
  return [8, 10].flatMap((count) => {
    const values = Array.from({ length: count }, (_, pcr) => log.pcrs.get(pcr));
    return values.every((value) => value !== undefined) ? [digest(log.bank, ...values).toString('hex')] : [];
  });
}
