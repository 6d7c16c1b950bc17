import type { Parsed } from '@keylime/core/parsed';
import type { PolicyStore } from './policy-store.ts';

/** Decoded policies by name. Each content is decoded once and in memory once, however many names and agents it has. */
export type PolicyRegistry<Policy> = {
  /** @throws PolicyUnusableError if there is none of that name or it does not decode: never a pass, never a verdict. */
  readonly get: (name: string) => Promise<Policy>;
  /** The policy of that name, if `get` is not needed to have it. */
  readonly peek: (name: string) => Policy | undefined;
  /** The policy of that name changed or went away. */
  readonly forget: (name: string) => void;
};

/** A policy in the database cannot be used: a fault of this service, not of the agents that it is for. */
export class PolicyUnusableError extends Error {
  readonly code = 'policy_unusable';
  constructor(name: string, problem: string) {
    super(`The policy '${name}' cannot be used: ${problem}. Upload it again.`);
    this.name = 'PolicyUnusableError';
  }
}

/** `decode` makes a policy of what is stored, or says why it cannot. */
export function openPolicyRegistry<Stored extends { readonly checksum: string }, Policy extends object>(
  store: Pick<PolicyStore<Stored>, 'find'>,
  decode: (stored: Stored) => Parsed<Policy, string> | Promise<Parsed<Policy, string>>,
): PolicyRegistry<Policy> {
  const byName = new Map<string, Policy>();
  const byChecksum = new Map<string, WeakRef<Policy>>();
  const loading = new Map<string, Promise<Policy>>();

  async function load(name: string): Promise<Policy> {
    const stored = await store.find(name);
    if (stored === undefined) throw new PolicyUnusableError(name, 'it is not in the database');
    const known = byChecksum.get(stored.checksum)?.deref();
    if (known !== undefined) return known;
    const decoded = await decode(stored);
    if (!decoded.ok) throw new PolicyUnusableError(name, decoded.problem);
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
