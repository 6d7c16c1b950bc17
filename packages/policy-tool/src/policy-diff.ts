import { isJsonObject, type Json } from '@keylime/core/json';
import { keyIdText } from '@keylime/ima/signature';
import type { DigestMap } from '@keylime/policies/digest-map';
import type { Excludes } from '@keylime/policies/excludes';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { PolicyFile } from './policy-file.ts';

/** A name and digest that one of two policies accepts and the other does not. */
export type DigestChange = {
  readonly member: 'digests' | 'keyrings' | 'ima-buf';
  readonly name: string;
  readonly digest: string;
  /** Where the digest came from, as far as a policy says it. */
  readonly package?: string;
};

export type SetChange = { readonly added: readonly string[]; readonly removed: readonly string[] };

/** What a new policy allows and forbids against an old one. */
export type PolicyDiff = {
  readonly allowed: readonly DigestChange[];
  readonly forbidden: readonly DigestChange[];
  readonly excludes: SetChange;
  readonly ignoredKeyrings: SetChange;
  /** By key id. */
  readonly verificationKeys: SetChange;
  /** Other members whose values differ. */
  readonly settings: readonly { readonly name: string; readonly old: Json; readonly new: Json }[];
};

/**
 * Compares what two policies mean: a digest whose path the other policy excludes is accepted by both, and so is no change.
 */
export function diffPolicies(oldFile: PolicyFile, newFile: PolicyFile): PolicyDiff {
  const [before, after] = [oldFile.policy, newFile.policy];
  return {
    allowed: onlyIn(after, before),
    forbidden: onlyIn(before, after),
    excludes: setChange(excludesOf(oldFile.json), excludesOf(newFile.json)),
    ignoredKeyrings: setChange([...before.ignoredKeyrings], [...after.ignoredKeyrings]),
    verificationKeys: setChange(keyIdsOf(before), keyIdsOf(after)),
    settings: settingsChange(oldFile.json, newFile.json),
  };
}

export const isSame = (diff: PolicyDiff): boolean =>
  diff.allowed.length + diff.forbidden.length + diff.settings.length === 0 &&
  [diff.excludes, diff.ignoredKeyrings, diff.verificationKeys].every(
    ({ added, removed }) => added.length + removed.length === 0,
  );

function onlyIn(one: RuntimePolicy, other: RuntimePolicy): readonly DigestChange[] {
  const maps = [
    ['digests', one.digests, other.digests, other.excludes],
    // Excludes do not admit keys.
    ['keyrings', one.keyrings, other.keyrings, undefined],
    ['ima-buf', one.buffers, other.buffers, other.excludes],
  ] as const;
  return maps.flatMap(([member, digests, otherDigests, excludes]) => {
    const changes: DigestChange[] = [];
    for (const [name, list] of digests) {
      for (const hex of list) {
        if (accepts(name, hex, otherDigests, excludes)) continue;
        const packageName = one.packages.get(hex)?.[0];
        changes.push({ member, name, digest: hex, ...(packageName !== undefined && { package: packageName }) });
      }
    }
    return changes;
  });
}

function accepts(name: string, hex: string, digests: DigestMap, excludes: Excludes | undefined): boolean {
  return digests.includes(name, hex) || (excludes?.matches(name) ?? false);
}

function setChange(before: readonly string[], after: readonly string[]): SetChange {
  const [old, now] = [new Set(before), new Set(after)];
  return { added: [...now].filter((one) => !old.has(one)), removed: [...old].filter((one) => !now.has(one)) };
}

const excludesOf = (json: Json): readonly string[] =>
  isJsonObject(json) && Array.isArray(json.excludes) ? json.excludes.filter((one) => typeof one === 'string') : [];

const keyIdsOf = ({ verificationKeys }: RuntimePolicy): readonly string[] =>
  [...verificationKeys.keys()].map(keyIdText);

function settingsChange(before: Json, after: Json): PolicyDiff['settings'] {
  const settings = (json: Json) => {
    const root = isJsonObject(json) ? json : {};
    const ima = isJsonObject(root.ima) ? root.ima : {};
    return { release: root.release ?? 0, log_hash_alg: ima.log_hash_alg ?? null, dm_policy: ima.dm_policy ?? null };
  };
  const [old, now] = [settings(before), settings(after)];
  return (['release', 'log_hash_alg', 'dm_policy'] as const)
    .filter((name) => JSON.stringify(old[name]) !== JSON.stringify(now[name]))
    .map((name) => ({ name, old: old[name], new: now[name] }));
}

/** The difference as lines for a person: `+` for what is allowed now, `-` for what no longer is. */
export function diffLines(diff: PolicyDiff): readonly string[] {
  const digestLine =
    (sign: string) =>
    ({ member, name, digest, package: packageName }: DigestChange): string =>
      `${sign} ${member === 'digests' ? '' : `${member} `}${name} ${digest}${packageName === undefined ? '' : ` (${packageName})`}`;
  const setLines = (what: string, { added, removed }: SetChange): string[] => [
    ...removed.map((one) => `- ${what} ${one}`),
    ...added.map((one) => `+ ${what} ${one}`),
  ];
  return [
    ...diff.settings.map((one) => `~ ${one.name}: ${JSON.stringify(one.old)} -> ${JSON.stringify(one.new)}`),
    ...setLines('exclude', diff.excludes),
    ...setLines('ignored keyring', diff.ignoredKeyrings),
    ...setLines('verification key', diff.verificationKeys),
    ...diff.forbidden.map(digestLine('-')),
    ...diff.allowed.map(digestLine('+')),
  ];
}
