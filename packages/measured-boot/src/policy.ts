import type { NonEmpty } from '@keylime/core/non-empty';
import type { Parsed } from '@keylime/core/parsed';
import type { VerifiedEventLog } from '@keylime/event-log/verify';

/** Why a policy does not accept a boot: one event that is wrong, or something that is missing. Plain data. */
export type BootViolation = {
  /** Public: operators' tools switch on it. Snake case, as `kernel_cmdline_unexpected`. */
  readonly reason: string;
  /** Index in the log, from 0, of the event that is wrong; absent where something is missing. */
  readonly event?: number;
  readonly pcr?: number;
  /** TCG's name of its type, as the log has it: nothing vouches for a type. */
  readonly type?: string;
  /** What the reference state asks for, and what the log says, in words of the event. */
  readonly expected?: string;
  readonly found?: string;
};

/** What is wrong with a reference state: where in it, as `kernels[0].kernel_cmdline`, and what to do. */
export type ReferenceProblem = { readonly path: string; readonly message: string };

/**
 * A measured-boot policy: a rule over boots that a reference state parameterises. Pure: it has no state between two
 * evaluations. An exception that it throws is a failure of this policy. `evaluate` is given what `decodeReference` of the
 * same policy made, so a list of policies may leave `Reference` open.
 */
export type MeasuredBootPolicy<Reference = unknown> = {
  readonly name: string;
  /** Refuses at upload what could not be judged later. `json` is parsed JSON; `undefined` is no reference state. */
  readonly decodeReference: (json: unknown) => Parsed<Reference, NonEmpty<ReferenceProblem>>;
  /** PCRs that must be quoted and led to by the log before `evaluate` is asked. */
  readonly pcrs: readonly number[];
  /** No violations: the boot is as the reference state says. */
  evaluate(log: VerifiedEventLog, reference: Reference): readonly BootViolation[];
};
