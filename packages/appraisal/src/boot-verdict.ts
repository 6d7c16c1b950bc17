import type { HashAlgorithm } from '@keylime/core/digest';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventLogFailure, type EventLogVerification, verifyEventLog } from '@keylime/event-log/verify';
import type { BootViolation, MeasuredBootPolicy } from '@keylime/measured-boot/policy';

/** A boot, and what it is judged by. Plain data: boots are judged in threads of their own. */
export type BootQuestion = {
  /** Digest of `log` to `reference`, and of the TPM's reset count: two boots with the same key are the same boot. */
  readonly key: string;
  /** The binary event log as it came. */
  readonly log: Uint8Array;
  readonly bank: HashAlgorithm;
  /** The PCRs of a verified quote that the log must lead to, in lower-case hex. */
  readonly pcrs: readonly (readonly [pcr: number, value: string])[];
  readonly reference: BootReference;
  /** Whether it is asked about the same boot again, at every attestation. */
  readonly evaluate: 'once' | 'always';
};

/** What a boot is judged by: a policy of this name, with the reference state that parameterises it. */
export type BootReference = {
  readonly rules: string;
  /** JSON text; absent where the policy is to do without. */
  readonly text: string | undefined;
  /** SHA-256 of both, in hex. */
  readonly checksum: string;
  /** Tells one version of the policy's code from another: a verdict of one is none of the other's. */
  readonly edition: string;
};

/** The answer to the question of that key. No failures: the boot is accepted. */
export type BootVerdict = { readonly key: string; readonly failures: readonly BootFailure[] };

export type BootFailure =
  /** PCRs of the boot were quoted, and there is no log to explain them. */
  | { readonly kind: 'measured_boot_log_missing'; readonly pcrs: readonly number[] }
  | { readonly kind: 'measured_boot_log_not_base64' }
  | EventLogFailure
  | {
      readonly kind: 'measured_boot_reference_invalid';
      readonly rules: string;
      readonly path: string;
      readonly problem: string;
    }
  | ({ readonly kind: 'measured_boot_policy_violated' } & JudgedBy & BootViolation)
  /** The policy itself went wrong: it threw, took too long, or answered something that is no answer. */
  | ({ readonly kind: 'measured_boot_policy_failed'; readonly problem: string } & JudgedBy)
  /** Log and reference state took longer than a boot may take: a check that did not run is a failure. */
  | ({ readonly kind: 'measured_boot_judged_too_slowly'; readonly problem: string } & JudgedBy);

type JudgedBy = { readonly rules: string; readonly checksum: string };

/** More are not told: an attacker writes logs of thousands of events that nobody expects. */
const MOST_FAILURES = 64;

/**
 * Judges a boot by `policy`: the log must lead to the quoted PCRs, and what it then says for sure must be as the reference
 * state says. Pure, but as slow as the policy is. What the policy throws is a failure of this boot. `verify` is for whoever
 * remembers what `verifyBoot` said.
 */
export function judgeBoot(
  question: BootQuestion,
  policy: MeasuredBootPolicy | undefined,
  verify: typeof verifyBoot = verifyBoot,
): BootVerdict {
  const failures = policy === undefined ? [unknownPolicy(question)] : bootFailures(question, policy, verify);
  return { key: question.key, failures: failures.slice(0, MOST_FAILURES) };
}

/** Decodes the log of a boot and compares it with the quoted PCRs. Pure. */
export function verifyBoot({ log, bank, pcrs }: BootQuestion): EventLogVerification {
  const values = new Map(pcrs.map(([pcr, value]) => [pcr, Buffer.from(value, 'hex')]));
  return verifyEventLog(decodeEventLog(log), { bank, pcrs: values }, [...values.keys()]);
}

function bootFailures(
  question: BootQuestion,
  policy: MeasuredBootPolicy,
  verify: typeof verifyBoot,
): readonly BootFailure[] {
  const verified = verify(question);
  if (!verified.ok) return verified.failures;
  const { reference } = question;
  const { rules, checksum } = reference;
  try {
    const decoded = policy.decodeReference(referenceJson(reference));
    if (!decoded.ok) {
      return decoded.problem.map(({ path, message }) => ({
        kind: 'measured_boot_reference_invalid',
        ...{ rules, path, problem: message },
      }));
    }
    return readViolations(policy.evaluate(verified.log, decoded.value)).map((violation) => ({
      kind: 'measured_boot_policy_violated',
      ...{ rules, checksum, ...violation },
    }));
  } catch (error) {
    return [policyFailed(reference, error instanceof Error ? error.message : String(error))];
  }
}

/** The policy of this boot gave no answer, for the reason `problem`. */
export const policyFailed = ({ rules, checksum }: BootReference, problem: string): BootFailure => ({
  kind: 'measured_boot_policy_failed',
  ...{ rules, checksum, problem },
});

/** Nobody waits longer for the judgement of this boot, for the reason `problem`. */
export const judgedTooSlowly = ({ rules, checksum }: BootReference, problem: string): BootFailure => ({
  kind: 'measured_boot_judged_too_slowly',
  ...{ rules, checksum, problem },
});

const unknownPolicy = ({ reference: { rules } }: BootQuestion): BootFailure => ({
  kind: 'measured_boot_reference_invalid',
  ...{ rules, path: '', problem: 'this verifier has no measured-boot policy of that name' },
});

/** The reference state as a policy takes it; text that is not JSON is for the policy to refuse, and none of them takes it. */
export const referenceJson = ({ text }: Pick<BootReference, 'text'>): Json | undefined =>
  text === undefined ? undefined : (parseJson(text) ?? text);

/** A policy may be anybody's: what it answers is looked at before it is believed. @throws TypeError */
function readViolations(answer: unknown): readonly BootViolation[] {
  if (!Array.isArray(answer)) throw new TypeError('it did not answer a list of violations');
  return answer.map((one: unknown): BootViolation => {
    if (!isJsonObject(one) || typeof one.reason !== 'string' || one.reason === '') {
      throw new TypeError('a violation has no reason');
    }
    const { reason, event, pcr, type, expected, found } = one;
    return {
      reason,
      ...(typeof event === 'number' && { event }),
      ...(typeof pcr === 'number' && { pcr }),
      ...(typeof type === 'string' && { type }),
      ...(typeof expected === 'string' && { expected }),
      ...(typeof found === 'string' && { found }),
    };
  });
}
