import { parseBase64 } from '@keylime/core/base64';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { RecentMap } from '@keylime/core/recent-map';
import { computedKeyId, parseVerificationKey, type VerificationKey } from './public-key.ts';

/** Keys by their id. Of two keys with one id the later one counts. */
export type Keyring = ReadonlyMap<number, VerificationKey>;

/** A keyring as JSON: SubjectPublicKeyInfo in DER in base64, and the ids in the same order. */
export type KeyringJson = { readonly pubkeys: readonly string[]; readonly keyids: readonly number[] };

/** What is wrong with the JSON text of a keyring; `index` is that of the key. */
export type KeyringProblem = { readonly index?: number; readonly message: string };

export const EMPTY_KEYRING: Keyring = new Map();

/**
 * The keyring in JSON text, as in a policy's `verification-keys` or an enrolment's `ima_sign_verification_keys`. Text that
 * holds JSON text is unwrapped once; empty text, `null` and `[]` are no keys. Every key must be usable: one left out in
 * silence would look like an invalid signature much later.
 */
export function parseKeyring(text: string): Parsed<Keyring, KeyringProblem> {
  if (text === '') return good(EMPTY_KEYRING);
  const outer = parseJson(text);
  const json = typeof outer === 'string' ? (outer === '' ? null : parseJson(outer)) : outer;
  if (json === null || (Array.isArray(json) && json.length === 0)) return good(EMPTY_KEYRING);
  if (!isJsonObject(json)) return bad({ message: 'it is not the JSON text of a keyring object' });
  return decodeKeyring(json);
}

/** The keyring in a JSON object; a missing id, or 0, is computed. */
export function decodeKeyring(json: { readonly [key: string]: Json } | KeyringJson): Parsed<Keyring, KeyringProblem> {
  const { pubkeys, keyids } = json;
  if (!isTexts(pubkeys)) return bad({ message: "'pubkeys' must be a list of texts" });
  if (!isKeyIds(keyids)) return bad({ message: "'keyids' must be a list of integers from 0 to 4294967295" });
  if (keyids.length > pubkeys.length) return bad({ message: "'keyids' is longer than 'pubkeys'" });
  const keyring = new Map<number, VerificationKey>();
  for (const [index, pubkey] of pubkeys.entries()) {
    const parsed = encodedKey(pubkey);
    if (typeof parsed === 'string') return bad({ index, message: `key ${index} ${parsed}` });
    const keyId = keyids[index] || parsed.keyId;
    keyring.set(keyId, { key: parsed.key, keyId });
  }
  return good(keyring);
}

/** The JSON of a keyring: what `decodeKeyring` reads back. */
export function encodeKeyring(keys: Iterable<VerificationKey>): KeyringJson {
  const list = [...keys];
  return {
    pubkeys: list.map(({ key }) => key.export({ format: 'der', type: 'spki' }).toString('base64')),
    keyids: list.map(({ keyId }) => keyId),
  };
}

/** Keys decoded lately, by their base64: the keys of a fleet are few, and asked for at every attestation. */
const decoded = new RecentMap<string, VerificationKey>(256);

function encodedKey(pubkey: string): VerificationKey | string {
  const known = decoded.get(pubkey);
  if (known !== undefined) return known;
  const bytes = parseBase64(pubkey);
  if (bytes === undefined) return 'is not base64';
  const parsed = parseVerificationKey(bytes);
  if (!parsed.ok) {
    return parsed.problem.kind === 'not_a_key'
      ? 'is not a public key in DER'
      : `is of type ${parsed.problem.keyType}: RSA and ECDSA keys are wanted`;
  }
  const key = { key: parsed.value.key, keyId: computedKeyId(parsed.value.key) };
  decoded.set(pubkey, key);
  return key;
}

const isTexts = (value: unknown): value is readonly string[] =>
  Array.isArray(value) && value.every((item) => typeof item === 'string');

const isKeyIds = (value: unknown): value is readonly number[] =>
  Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0 && id < 2 ** 32);
