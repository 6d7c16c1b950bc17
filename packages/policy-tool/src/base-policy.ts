import { isJsonObject, type Json } from '@keylime/core/json';
import { parseKeyring } from '@keylime/ima/keyring';
import { type AlgorithmSource, guessAlgorithm } from './digest-algorithm.ts';
import { addDigest, addKeys, type DraftDigests, type PolicyDraft } from './policy-draft.ts';
import { ToolError } from './tool-error.ts';

type Members = { readonly [name: string]: Json };

/**
 * Takes everything but `meta` from a policy that is to be extended; members that it lacks stay empty. What it has must be
 * of the right kind, the rest is checked with the finished policy.
 * @throws ToolError `policy_invalid`
 */
export function importBasePolicy(json: Json, draft: PolicyDraft): readonly AlgorithmSource[] {
  if (!isJsonObject(json)) throw invalid('it is not a JSON object');
  if (Object.hasOwn(json, 'payload')) throw invalid('it is signed: take it out with `keylime-policy verify` first');
  importDigests(json, 'digests', draft.digests);
  importDigests(json, 'keyrings', draft.keyrings);
  importDigests(json, 'ima-buf', draft.buffers);
  draft.excludes.push(...texts(json.excludes, 'excludes'));
  const ima = json.ima ?? {};
  if (!isJsonObject(ima)) throw invalid("'ima' is not an object");
  for (const keyring of texts(ima.ignored_keyrings, 'ima.ignored_keyrings')) draft.ignoredKeyrings.add(keyring);
  draft.logHashAlgorithm = text(ima.log_hash_alg, 'ima.log_hash_alg', 'sha1');
  draft.dmPolicy = ima.dm_policy ?? null;
  draft.release = typeof json.release === 'number' ? json.release : 0;
  draft.verificationKeys = text(json['verification-keys'], 'verification-keys', '');
  const packages = json.packages ?? {};
  if (!isJsonObject(packages)) throw invalid("'packages' is not an object");
  for (const [hex, name] of Object.entries(packages)) draft.packages.set(hex, text(name, `packages.${hex}`, ''));
  const [first] = draft.digests.values();
  const [hex] = first ?? [];
  return hex === undefined ? [] : [{ name: 'base policy', algorithm: guessAlgorithm(hex) }];
}

/** Makes the keys of the base policy part of the draft's, before others are added. @throws ToolError `policy_invalid` */
export function importBaseKeys(draft: PolicyDraft): void {
  const keyring = parseKeyring(draft.verificationKeys);
  if (!keyring.ok) throw invalid(`'verification-keys': ${keyring.problem.message}`);
  addKeys(draft, keyring.value);
}

function importDigests(json: Members, member: string, into: DraftDigests): void {
  const map = json[member] ?? {};
  if (!isJsonObject(map)) throw invalid(`'${member}' is not an object`);
  for (const [name, digests] of Object.entries(map)) {
    for (const hex of texts(digests, `${member}.${name}`)) addDigest(into, name, hex);
  }
}

function texts(value: Json | undefined, where: string): readonly string[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value) && value.every((item) => typeof item === 'string')) return value;
  throw invalid(`'${where}' is not a list of texts`);
}

function text(value: Json | undefined, where: string, absent: string): string {
  if (value === undefined || value === null) return absent;
  if (typeof value === 'string') return value;
  throw invalid(`'${where}' is not text`);
}

const invalid = (why: string): ToolError =>
  new ToolError('policy_invalid', `Base policy is not a valid runtime policy: ${why}`);
