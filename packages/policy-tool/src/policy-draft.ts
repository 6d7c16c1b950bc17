import { pythonJson } from '@keylime/api/python-json';
import { DIGEST_SIZES, digestHex, type HashAlgorithm } from '@keylime/core/digest';
import type { Json } from '@keylime/core/json';
import { encodeKeyring, type Keyring } from '@keylime/ima/keyring';
import type { VerificationKey } from '@keylime/ima/public-key';
import { policyWarnings } from '@keylime/policies/policy-warnings';
import { decodeRuntimePolicy } from '@keylime/policies/runtime-policy';
import type { Log } from '@keylime/service/log';
import { ToolError } from './tool-error.ts';

/** Accepted digests by name, in the order in which the names were found. */
export type DraftDigests = Map<string, Set<string>>;

/** A runtime policy in the making. */
export type PolicyDraft = {
  release: number;
  readonly digests: DraftDigests;
  readonly excludes: string[];
  readonly keyrings: DraftDigests;
  readonly buffers: DraftDigests;
  readonly ignoredKeyrings: Set<string>;
  logHashAlgorithm: string;
  dmPolicy: Json;
  /** As the base policy has it, which stays unless keys are added. */
  verificationKeys: string;
  readonly keys: Map<number, VerificationKey>;
  /** Name and version of the package that a digest came from. */
  readonly packages: Map<string, string>;
};

export const emptyDraft = (): PolicyDraft => ({
  release: 0,
  digests: new Map(),
  excludes: [],
  keyrings: new Map(),
  buffers: new Map(),
  ignoredKeyrings: new Set(),
  logHashAlgorithm: 'sha1',
  dmPolicy: null,
  verificationKeys: '',
  keys: new Map(),
  packages: new Map(),
});

export function addDigest(map: DraftDigests, name: string, hex: string): void {
  const digests = map.get(name);
  if (digests === undefined) map.set(name, new Set([hex]));
  else digests.add(hex);
}

/** The kernel writes spaces of a path as underscores. */
export const measuredName = (path: string): string => path.replaceAll(' ', '_');

/** Digests of empty files, which are of no package in particular. */
const OF_NOTHING: ReadonlySet<string> = new Set(
  (Object.keys(DIGEST_SIZES) as HashAlgorithm[]).map((algorithm) => digestHex(algorithm, Buffer.alloc(0))),
);

/** A file of the system; a digest that several packages bring keeps the first of their names. */
export function addFile(draft: PolicyDraft, path: string, hex: string, packageName?: string): void {
  addDigest(draft.digests, measuredName(path), hex);
  if (packageName === undefined || draft.packages.has(hex) || OF_NOTHING.has(hex)) return;
  draft.packages.set(hex, packageName);
}

export function addKeys(draft: PolicyDraft, keys: Keyring): void {
  for (const [keyId, key] of keys) draft.keys.set(keyId, key);
}

/** Whether every entry of every list will fail. */
export const allowsNothing = ({ digests, keyrings, buffers, keys, verificationKeys, excludes }: PolicyDraft): boolean =>
  digests.size + keyrings.size + buffers.size + keys.size + excludes.length === 0 && verificationKeys === '';

/**
 * The policy as the existing tools write it: one line, members in their order, lists sorted; `packages` comes last, if
 * there are any. What is written decodes.
 * @throws ToolError `policy_invalid`
 */
export function policyText(draft: PolicyDraft, now: Date, log: Log): string {
  const text = pythonJson({
    meta: { version: 1, generator: 3, timestamp: timestamp(now) },
    release: draft.release,
    digests: sorted(draft.digests),
    excludes: [...new Set(draft.excludes)].sort(),
    keyrings: sorted(draft.keyrings),
    ima: {
      ignored_keyrings: [...draft.ignoredKeyrings].sort(),
      log_hash_alg: draft.logHashAlgorithm,
      dm_policy: draft.dmPolicy,
    },
    'ima-buf': sorted(draft.buffers),
    'verification-keys':
      draft.keys.size === 0 ? draft.verificationKeys : pythonJson(encodeKeyring(draft.keys.values())),
    ...(draft.packages.size > 0 && { packages: Object.fromEntries(draft.packages) }),
  });
  const decoded = decodeRuntimePolicy(text);
  if (!decoded.ok) {
    const [{ message, path }] = decoded.problem;
    throw new ToolError('policy_invalid', `The policy would not be valid: ${message} at ${path.join('.')}`);
  }
  for (const warning of policyWarnings(decoded.value)) log.warn(warning);
  return text;
}

/**
 * Lines `digest  path`, as allowlists were once written: `boot_aggregate` first.
 * @throws ToolError `policy_invalid` for a name that would make two lines of one
 */
export function legacyAllowlist({ digests }: PolicyDraft): string {
  const names = [...digests.keys()].sort((a, b) => Number(b === 'boot_aggregate') - Number(a === 'boot_aggregate'));
  const broken = names.find((name) => /[\r\n]/.test(name));
  if (broken !== undefined) {
    throw new ToolError('policy_invalid', `An allowlist cannot name a path with a line feed: ${broken}`);
  }
  return names.flatMap((name) => [...(digests.get(name) ?? [])].sort().map((hex) => `${hex}  ${name}\n`)).join('');
}

const sorted = (map: DraftDigests): { readonly [name: string]: readonly string[] } =>
  Object.fromEntries([...map].map(([name, digests]) => [name, [...digests].sort()]));

/** Local time, `YYYY-MM-DD HH:MM:SS.ffffff`. */
export function timestamp(date: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return `${day} ${time}.${String(date.getMilliseconds()).padStart(3, '0')}000`;
}
