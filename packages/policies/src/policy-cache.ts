import type { NonEmpty } from '@keylime/core/non-empty';
import { good, type Parsed } from '@keylime/core/parsed';
import { decodeStoredPolicy, type PolicyProblem, type RuntimePolicy, runtimePolicyChecksum } from './runtime-policy.ts';

/** Decoded policies by checksum, so that a process decodes each content once, however many agents it judges. */
export type PolicyCache = {
  readonly find: (checksum: string) => RuntimePolicy | undefined;
  /** The policy of `text`, in its envelope or not, decoded now if it was not kept. */
  readonly decode: (text: string) => Parsed<RuntimePolicy, NonEmpty<PolicyProblem>>;
};

/** Keeps the `capacity` policies used last. */
export function policyCache(capacity = 64): PolicyCache {
  const policies = new Map<string, RuntimePolicy>();
  const keep = (policy: RuntimePolicy): RuntimePolicy => {
    // A map keeps the order of insertion: what was used last goes to its end.
    policies.delete(policy.checksum);
    policies.set(policy.checksum, policy);
    const [oldest] = policies.keys();
    if (policies.size > capacity && oldest !== undefined) policies.delete(oldest);
    return policy;
  };
  const find = (checksum: string): RuntimePolicy | undefined => {
    const policy = policies.get(checksum);
    return policy && keep(policy);
  };
  return {
    find,
    decode(text) {
      const known = find(runtimePolicyChecksum(text));
      if (known !== undefined) return good(known);
      const decoded = decodeStoredPolicy(text);
      if (decoded.ok) keep(decoded.value);
      return decoded;
    },
  };
}
