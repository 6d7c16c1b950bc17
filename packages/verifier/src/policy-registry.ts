import { decodeStoredPolicy, type RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { PolicyStore } from './policy-store.ts';

/** Decoded policies by name. Each content is decoded once and in memory once, however many names and agents it has. */
export type PolicyRegistry = {
  /** @throws PolicyUnusableError if there is none of that name or it does not decode: never a pass, never a verdict. */
  readonly get: (name: string) => Promise<RuntimePolicy>;
  /** The policy of that name, if `get` is not needed to have it. */
  readonly peek: (name: string) => RuntimePolicy | undefined;
  /** The policy of that name changed or went away. */
  readonly forget: (name: string) => void;
};

/** A policy in the database cannot be used: a fault of this service, not of the agents that it is for. */
export class PolicyUnusableError extends Error {
  readonly code = 'policy_unusable';
  constructor(name: string, problem: string) {
    super(`The runtime policy '${name}' cannot be used: ${problem}. Upload it again.`);
    this.name = 'PolicyUnusableError';
  }
}

export function openPolicyRegistry(store: Pick<PolicyStore, 'find'>): PolicyRegistry {
  const byName = new Map<string, RuntimePolicy>();
  const byChecksum = new Map<string, WeakRef<RuntimePolicy>>();
  const loading = new Map<string, Promise<RuntimePolicy>>();

  async function load(name: string): Promise<RuntimePolicy> {
    const stored = await store.find(name);
    if (stored === undefined) throw new PolicyUnusableError(name, 'it is not in the database');
    const known = byChecksum.get(stored.checksum)?.deref();
    if (known !== undefined) return known;
    const decoded = decodeStoredPolicy(stored.text);
    if (!decoded.ok) throw new PolicyUnusableError(name, decoded.problem[0].message);
    byChecksum.set(stored.checksum, new WeakRef(decoded.value));
    return decoded.value;
  }

  return {
    peek: (name) => byName.get(name),
    async get(name) {
      const known = byName.get(name);
      if (known !== undefined) return known;
      const running = loading.get(name) ?? load(name).finally(() => loading.delete(name));
      loading.set(name, running);
      const policy = await running;
      // Forgotten while it was read: what was read may be the old one, so it is good for this once only.
      if (loading.get(name) === undefined || loading.get(name) === running) byName.set(name, policy);
      return policy;
    },
    forget(name) {
      byName.delete(name);
      loading.delete(name);
    },
  };
}
