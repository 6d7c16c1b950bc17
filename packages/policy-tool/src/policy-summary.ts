import { isJsonObject, type Json } from '@keylime/core/json';
import { keyIdText } from '@keylime/ima/signature';
import type { DigestMap } from '@keylime/policies/digest-map';
import type { PolicyFile } from './policy-file.ts';

/** What there is to know about a policy at a glance. */
export function policySummary({ json, policy, isSigned }: PolicyFile): { readonly [name: string]: Json } {
  const root = isJsonObject(json) ? json : {};
  const meta = isJsonObject(root.meta) ? root.meta : {};
  return {
    checksum: policy.checksum,
    signed: isSigned,
    version: policy.version,
    generator: policy.generator,
    timestamp: meta.timestamp ?? null,
    release: root.release ?? 0,
    files: policy.digests.size,
    digests: countAll(policy.digests),
    digest_algorithms: algorithmsOf(policy.digests),
    boot_aggregates: [...(policy.digests.get('boot_aggregate') ?? [])],
    excludes: Array.isArray(root.excludes) ? root.excludes : [],
    keyrings: namesOf(policy.keyrings),
    ignored_keyrings: [...policy.ignoredKeyrings],
    ima_buf: namesOf(policy.buffers),
    verification_keys: [...policy.verificationKeys.keys()].map(keyIdText),
    log_hash_alg: policy.logHashAlgorithm,
    dm_policy: policy.dmPolicy !== null,
    packages: new Set(policy.packages.values()).size,
  };
}

const ALGORITHMS: ReadonlyMap<number, string> = new Map([
  [40, 'sha1'],
  [64, 'sha256'],
  [96, 'sha384'],
  [128, 'sha512'],
]);

function countAll(map: DigestMap): number {
  let count = 0;
  for (const list of map.values()) count += list.length;
  return count;
}

/** By the length of their digests; a length of no algorithm is shown as it is. */
function algorithmsOf(map: DigestMap): readonly string[] {
  const lengths = new Set<number>();
  for (const list of map.values()) for (const hex of list) lengths.add(hex.length);
  return [...lengths].map((length) => ALGORITHMS.get(length) ?? `${4 * length} bits`);
}

const namesOf = (map: DigestMap): { readonly [name: string]: number } =>
  Object.fromEntries([...map].map(([name, list]) => [name, list.length]));

/** The summary as lines for a person. */
export const summaryLines = (summary: { readonly [name: string]: Json }): readonly string[] =>
  Object.entries(summary).map(([name, value]) => {
    const shown = typeof value === 'string' ? value : value === null ? '-' : JSON.stringify(value);
    return `${name.padEnd(18)} ${shown}`;
  });
