import type { KeyObject } from 'node:crypto';
import { parseBase64, parseHex } from '@keylime/core/base64';
import { isJsonObject } from '@keylime/core/json';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { unwrapKeyShare } from '@keylime/payload/encryption';
import { AUTH_TAG_BYTES, isKeySize } from '@keylime/payload/key-split';
import type { ReceivedU } from './payload-keys.ts';

/**
 * Body of POST keys/ukey, with U decrypted. The problem is the `status` text of the 400 answer, as the existing agent words
 * it and in its order (spec 01 section 6.2, 02 section 5.2).
 */
export function readUkey(body: unknown, payloadKey: KeyObject): Parsed<ReceivedU, string> {
  const fields = textFields(body, ['auth_tag', 'encrypted_key'], ['payload']);
  if (!fields.ok) return fields;
  const { auth_tag: tagText = '', encrypted_key: encryptedKey = '', payload: payloadText } = fields.value;
  const share = decryptShare(encryptedKey, payloadKey, 'Invalid decrypted key');
  if (!share.ok) return share;
  const authTag = parseHex(tagText);
  if (authTag === undefined) return bad('Invalid hex encoding in auth_tag: expected hexadecimal digits');
  if (authTag.length !== AUTH_TAG_BYTES) {
    return bad(`auth tag length ${authTag.length} does not correspond to valid SHA-384 HMAC`);
  }
  if (payloadText === undefined) return good({ share: share.value, authTag, payload: undefined });
  const payload = parseBase64(payloadText);
  if (payload === undefined) return bad('Invalid base64 encoding in payload: expected standard base64 with padding');
  return good({ share: share.value, authTag, payload });
}

/** Body of POST keys/vkey: V, decrypted. */
export function readVkey(body: unknown, payloadKey: KeyObject): Parsed<Buffer, string> {
  const fields = textFields(body, ['encrypted_key'], []);
  if (!fields.ok) return fields;
  return decryptShare(fields.value.encrypted_key ?? '', payloadKey, 'Decrypted key is invalid');
}

function decryptShare(text: string, payloadKey: KeyObject, invalid: string): Parsed<Buffer, string> {
  const wrapped = parseBase64(text);
  if (wrapped === undefined) {
    return bad('Invalid base64 encoding in encrypted_key: expected standard base64 with padding');
  }
  const share = unwrapKeyShare(payloadKey, wrapped);
  if (share === undefined) return bad('Failed to decrypt encrypted_key: it was not encrypted for this payload key');
  if (isKeySize(share)) return good(share);
  const problem = `${invalid}: it has ${share.length} bytes, not 16 or 32`;
  share.fill(0);
  return bad(problem);
}

/** The text fields of a JSON body; a `null` counts as absent where that is allowed. */
export function textFields<Required extends string, Optional extends string>(
  body: unknown,
  required: readonly Required[],
  optional: readonly Optional[],
): Parsed<{ readonly [name in Required | Optional]?: string }, string> {
  if (!isJsonObject(body)) return bad('Json deserialize error: expected an object');
  const found: { [name: string]: string } = {};
  for (const name of [...required, ...optional]) {
    const value = Object.hasOwn(body, name) ? body[name] : undefined;
    const isOptional = optional.some((one) => one === name);
    if (isOptional && (value === undefined || value === null)) continue;
    if (value === undefined) return bad(`Json deserialize error: missing field \`${name}\``);
    if (typeof value !== 'string') return bad(`Json deserialize error: field \`${name}\` must be a string`);
    found[name] = value;
  }
  return good(found as { readonly [name in Required | Optional]?: string });
}
