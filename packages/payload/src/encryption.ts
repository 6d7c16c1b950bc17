import {
  type CipherGCM,
  constants,
  createCipheriv,
  createDecipheriv,
  type DecipherGCM,
  type KeyObject,
  privateDecrypt,
  publicEncrypt,
} from 'node:crypto';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { isKeySize } from './key-split.ts';

/** Bytes of the initialisation vector. [compat] 16, not the usual 12. */
export const IV_BYTES = 16;
const TAG_BYTES = 16;

/**
 * Encrypts a payload, or anything else that existing Keylime keeps in this form, such as the CA's key store: AES-GCM with
 * a key of 16 or 32 bytes, no associated data. `iv` are 16 random bytes, never used twice with a key.
 * @returns IV ‖ ciphertext ‖ tag of 16 bytes; base64 on the wire. Source: spec 02 section 5.1. Throws RangeError.
 */
export function encryptPayload(key: Uint8Array, plaintext: Uint8Array, iv: Uint8Array): Buffer {
  if (!isKeySize(key)) throw new RangeError(`a key of ${key.length} bytes: it must have 16 or 32`);
  if (iv.length !== IV_BYTES) throw new RangeError(`an IV of ${iv.length} bytes: it must have ${IV_BYTES}`);
  const cipher = createCipheriv(cipherOf(key), key, iv) as CipherGCM;
  return Buffer.concat([iv, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]);
}

export type DecryptionProblem = 'key_size' | 'truncated' | 'not_authentic';

/** The plaintext of `encryptPayload`. No byte of it is given out unless the tag fits. */
export function decryptPayload(key: Uint8Array, encrypted: Uint8Array): Parsed<Buffer, DecryptionProblem> {
  if (!isKeySize(key)) return bad('key_size');
  if (encrypted.length < IV_BYTES + TAG_BYTES) return bad('truncated');
  const end = encrypted.length - TAG_BYTES;
  const decipher = createDecipheriv(cipherOf(key), key, encrypted.subarray(0, IV_BYTES)) as DecipherGCM;
  decipher.setAuthTag(encrypted.subarray(end));
  const plaintext = decipher.update(encrypted.subarray(IV_BYTES, end));
  try {
    return good(Buffer.concat([plaintext, decipher.final()]));
  } catch {
    return bad('not_authentic');
  } finally {
    plaintext.fill(0);
  }
}

const cipherOf = (key: Uint8Array) => (key.length === 16 ? 'aes-128-gcm' : 'aes-256-gcm');

// [compat] SHA-1 for the hash and for MGF1; OAEP does not rest on its collision resistance.
const OAEP = { padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: 'sha1' };

/** Encrypts U or V for the agent's payload key: RSA-OAEP with SHA-1 and an empty label. */
export const wrapKeyShare = (payloadKey: KeyObject, share: Uint8Array): Buffer =>
  publicEncrypt({ key: payloadKey, ...OAEP }, share);

/** U or V of what was encrypted for this payload key, of any length; `undefined` if it was not. */
export function unwrapKeyShare(payloadKey: KeyObject, wrapped: Uint8Array): Buffer | undefined {
  try {
    return privateDecrypt({ key: payloadKey, ...OAEP }, wrapped);
  } catch {
    return undefined;
  }
}
