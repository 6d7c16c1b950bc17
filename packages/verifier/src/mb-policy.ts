import { type BootExpectation, referenceChecksum } from '@keylime/appraisal/measured-boot';
import { parseJson } from '@keylime/core/json';
import type { BootPolicies, GivenReference } from './boot-policies.ts';
import { passedOver } from './passed-over.ts';
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
  const problem = rules === null && expectation !== undefined ? passedOver(expectation.reference) : undefined;
  const advice =
    'Store it with the name of the policy that it is for: mb_policy_rules, of the tenant --mb-policy-rules';
  return { hasReference: text !== null, expectation, ...(problem && { warning: `${problem} ${advice}` }) };
}

/** Results of a request that stored or used a policy. [compat] Empty, unless there is something to warn of. */
export const warningsOf = (policy: MbPolicy | undefined): { readonly warnings?: readonly string[] } =>
  policy?.warning === undefined ? {} : { warnings: [policy.warning] };
