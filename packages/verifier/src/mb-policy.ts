import { referenceJson } from '@keylime/appraisal/boot-verdict';
import { type BootExpectation, referenceChecksum } from '@keylime/appraisal/measured-boot';
import { parseJson } from '@keylime/core/json';
import { membersPassedOver } from '@keylime/measured-boot/members-passed-over';
import type { BootPolicies, GivenReference } from './boot-policies.ts';
import type { StoredMbPolicy } from './policy-store.ts';
import type { PolicyRefusal } from './submitted-policy.ts';

/** A measured-boot policy of the API, decoded: a reference state, if it has one, and what it makes one expect of a boot. */
export type MbPolicy = {
  readonly hasReference: boolean;
  readonly expectation: BootExpectation | undefined;
  /** What is allowed, but hardly meant. */
  readonly warning?: string;
};

const MOST_SHOWN_PROBLEMS = 5;
const MOST_SHOWN_MEMBERS = 10;

/**
 * The submitted reference state, ready to be stored under `name`, or why not: it must be JSON that the policy which it is
 * for takes. Nothing that could not be judged by is ever stored.
 */
export async function acceptMbPolicy(
  name: string,
  { text, rules }: GivenReference,
  policies: BootPolicies,
): Promise<StoredMbPolicy | PolicyRefusal> {
  if (text !== undefined && parseJson(text) === undefined) {
    return { code: 400, status: 'mb_policy is not valid JSON' };
  }
  if (rules !== undefined && !policies.has(rules)) {
    return { code: 400, status: `mb_policy_rules: this verifier has no measured-boot policy ${rules}` };
  }
  const problems = await policies.problems({ text, rules });
  if (problems.length > 0) {
    const more = problems.length > MOST_SHOWN_PROBLEMS ? [`and ${problems.length - MOST_SHOWN_PROBLEMS} more`] : [];
    const shown = [...problems.slice(0, MOST_SHOWN_PROBLEMS), ...more].join('; ');
    return { code: 400, status: `mb_policy cannot be used: ${shown}` };
  }
  const checksum = referenceChecksum(rules ?? '', text);
  return { name, text: text ?? null, rules: rules ?? null, checksum };
}

/** What is stored, as boots are judged by it. */
export function decodeStoredMbPolicy({ text, rules }: StoredMbPolicy, policies: BootPolicies): MbPolicy {
  const expectation = policies.expectation({ text: text ?? undefined, rules: rules ?? undefined });
  const warning = rules === null ? passedOverWarning(expectation) : undefined;
  return { hasReference: text !== null, expectation, ...(warning && { warning }) };
}

/** That the policy of the settings, which a reference state got because it names none, does not look at all of it. */
function passedOverWarning(expectation: BootExpectation | undefined): string | undefined {
  if (expectation === undefined) return undefined;
  const { reference } = expectation;
  const members = membersPassedOver(reference.rules, referenceJson(reference));
  if (members.length === 0) return undefined;
  const what =
    reference.rules === 'accept-all'
      ? 'at nothing of it: every boot passes whose log leads to the quoted PCRs'
      : `at all but ${members.slice(0, MOST_SHOWN_MEMBERS).join(', ')}`;
  return (
    `The reference state names no policy, so ${reference.rules} of measured_boot_policy_name judges by it, which looks ${what}. ` +
    'Store it with the name of the policy that it is for: mb_policy_rules, of the tenant --mb-policy-rules'
  );
}

/** Results of a request that stored or used a policy. [compat] Empty, unless there is something to warn of. */
export const warningsOf = (policy: MbPolicy | undefined): { readonly warnings?: readonly string[] } =>
  policy?.warning === undefined ? {} : { warnings: [policy.warning] };
