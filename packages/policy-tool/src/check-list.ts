import { BOOT_AGGREGATE } from '@keylime/appraisal/boot-aggregate';
import { DeviceMapper, NO_DEVICES } from '@keylime/appraisal/device-mapper';
import { failureEvent } from '@keylime/appraisal/event';
import { explain } from '@keylime/appraisal/explanation';
import { judgeLine, type MeasurementFailure, type MeasurementRules } from '@keylime/appraisal/measurement';
import type { RuntimeIntegrityFailure } from '@keylime/appraisal/runtime-integrity';
import { SigningKeys } from '@keylime/appraisal/signing-keys';
import { digest } from '@keylime/core/digest';
import type { Json } from '@keylime/core/json';
import { parseImaLine } from '@keylime/ima/entry';
import type { Keyring } from '@keylime/ima/keyring';
import { isViolation, nonBlankLines } from '@keylime/ima/replay';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';

/** One reason why a list would be refused. */
export type CheckFailure = {
  /** Of the entry, counted from 0; absent for what is about the whole list. */
  readonly index?: number;
  readonly eventId: string;
  readonly message: string;
  /** What else the verifier would say. */
  readonly context: { readonly [key: string]: Json };
};

export type CheckResult = {
  readonly entryCount: number;
  readonly violationCount: number;
  /** Whether there was something to judge the boot aggregate by. */
  readonly bootAggregateJudged: boolean;
  readonly failures: readonly CheckFailure[];
};

export type CheckRules = {
  readonly policy: RuntimePolicy;
  readonly violations: 'accept' | 'fail';
  /** Boot aggregates that the PCRs of the boot give, lower-case hex; absent where they are not known. */
  readonly bootAggregates?: readonly string[];
  /** Keys for signatures of files that an enrolment names instead of the policy's. */
  readonly verificationKeys?: Keyring;
};

/**
 * Judges a whole measurement list by a policy with the verifier's own rules, and tells all that it would refuse. What needs
 * a TPM is not judged: whether the list is the one that PCR 10 certifies, and, where the policy names no boot aggregate and
 * none is given, whether that is right.
 */
export function checkList(
  measured: readonly Uint8Array[],
  { policy, violations, bootAggregates, verificationKeys }: CheckRules,
): CheckResult {
  // A name with a line feed makes two lines of one on its way to the verifier.
  const lines = measured.flatMap((line) => [...nonBlankLines(line)]);
  const deviceMapper = policy.dmPolicy === null ? undefined : new DeviceMapper(policy.dmPolicy, NO_DEVICES);
  const rules: MeasurementRules = {
    policy,
    violations,
    bootAggregates: bootAggregates ?? [],
    keys: new SigningKeys(verificationKeys ?? policy.verificationKeys),
    deviceMapper,
  };
  const failures: RuntimeIntegrityFailure[] = [];
  let entryCount = 0;
  let violationCount = 0;
  const bootAggregateJudged =
    bootAggregates !== undefined || policy.digests.has(BOOT_AGGREGATE) || policy.excludes.matches(BOOT_AGGREGATE);
  for (const line of lines) {
    const index = entryCount++;
    const parsed = parseImaLine(line);
    const violation = parsed.ok && isViolation(parsed.value, policy.logHashAlgorithm);
    if (violation) violationCount++;
    if (index === 0 && !(parsed.ok && !violation && parsed.value.path === BOOT_AGGREGATE)) {
      failures.push({ kind: 'ima_boot_aggregate_missing' });
    }
    const computedHash = parsed.ok
      ? digest(policy.logHashAlgorithm, parsed.value.templateInput).toString('hex')
      : undefined;
    const found = judgeLine(
      { index, line, parsed, violation, ...(computedHash !== undefined && { computedHash }) },
      rules,
    );
    failures.push(...(bootAggregateJudged ? found : found.filter((failure) => !isUnknownBoot(failure))));
  }
  // An empty list would pass by itself: it is what a machine shows that measures nothing.
  if (entryCount === 0) failures.push({ kind: 'ima_boot_aggregate_missing' });
  for (const finding of deviceMapper?.judgeState() ?? []) failures.push({ kind: 'ima_device_mapper', ...finding });
  return {
    entryCount,
    violationCount,
    bootAggregateJudged,
    failures: explain(failures, { lines: () => lines, firstEntry: 0, policy }).map((failure): CheckFailure => {
      const { eventId, context } = failureEvent(failure);
      const { message, index, ...rest } = context;
      return {
        ...(typeof index === 'number' && { index }),
        eventId,
        message: typeof message === 'string' ? message : eventId,
        context: rest,
      };
    }),
  };
}

const isUnknownBoot = (failure: MeasurementFailure): boolean =>
  failure.kind === 'ima_path_unknown' && failure.path === BOOT_AGGREGATE;

/** A failure as one line for a person, with what is known beyond the message. */
export function failureLine({ index, message, context }: CheckFailure): string {
  const more: string[] = [];
  const { expected, first_index, listed_for, got_package, expected_packages, signature } = context;
  if (Array.isArray(expected) && expected.length > 0) {
    more.push(`expected ${expected.join(' or ')}${andMore(context.expected_more)}`);
  }
  if (Array.isArray(expected_packages)) more.push(`of ${expected_packages.join(' or ')}`);
  if (typeof got_package === 'string') more.push(`found is of ${got_package}`);
  if (Array.isArray(listed_for))
    more.push(`the digest is listed for ${listed_for.join(', ')}${andMore(context.listed_for_more)}`);
  if (typeof first_index === 'number') more.push(`first seen in entry ${first_index}`);
  if (typeof signature === 'string') {
    const { key_id: keyId, key_serial: serial } = context;
    const by =
      typeof keyId === 'string' ? ` by key ${keyId}` : typeof serial === 'string' ? ` by certificate ${serial}` : '';
    more.push(`signature${by}: ${signature.replaceAll('_', ' ')}`);
  }
  return `${index === undefined ? '' : `entry ${index}: `}${message}${more.length > 0 ? ` (${more.join('; ')})` : ''}`;
}

const andMore = (count: Json | undefined): string => (typeof count === 'number' ? ` and ${count} more` : '');
