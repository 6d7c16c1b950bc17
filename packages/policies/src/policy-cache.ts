import type { NonEmpty } from '@keylime/core/non-empty';
import { good, type Parsed } from '@keylime/core/parsed';
import { RecentMap } from '@keylime/core/recent-map';
import { decodeStoredPolicy, type PolicyProblem, type RuntimePolicy, runtimePolicyChecksum } from './runtime-policy.ts';

/** Decoded policies by checksum, so that a process decodes each content once, however many agents it judges. */
export type PolicyCache = {
  readonly find: (checksum: string) => RuntimePolicy | undefined;
  /** The policy of `text`, in its envelope or not, decoded now if it was not kept. */
  readonly decode: (text: string) => Parsed<RuntimePolicy, NonEmpty<PolicyProblem>>;
};

/** Keeps the `capacity` policies used last. */
export function policyCache(capacity = 64): PolicyCache {
  const policies = new RecentMap<string, RuntimePolicy>(capacity);
  return {
    find: (checksum) => policies.get(checksum),
    decode(text) {
      const known = policies.get(runtimePolicyChecksum(text));
      if (known !== undefined) return good(known);
      const decoded = decodeStoredPolicy(text);
      if (decoded.ok) policies.set(decoded.value.checksum, decoded.value);
      return decoded;
    },
  };
}
