import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * The payload key K and its two halves, V and U = K xor V: the tenant gives U to the agent and V to the verifier, and
 * neither half alone says anything about K. Source: spec 02 section 5.1.
 */
export type KeySplit = { readonly k: Buffer; readonly u: Buffer; readonly v: Buffer };

/** Bytes of a new K. */
export const KEY_BYTES = 32;
/** Bytes of an authentication tag: HMAC-SHA384. */
export const AUTH_TAG_BYTES = 48;

/** Whether `key` has a size that agents take for K, U and V: 16 (AES-128) or 32 bytes (AES-256). */
export const isKeySize = (key: Uint8Array): boolean => key.length === 16 || key.length === 32;

/** Splits K with the random bytes V. Throws RangeError unless both have the same size of 16 or 32. */
export const splitKey = (k: Buffer, v: Buffer): KeySplit => ({ k, u: xor(k, v), v });

/** K of its halves. Throws RangeError unless both have the same size of 16 or 32. */
export const joinKey = (u: Uint8Array, v: Uint8Array): Buffer => xor(u, v);

function xor(one: Uint8Array, other: Uint8Array): Buffer {
  if (!isKeySize(one) || one.length !== other.length) {
    throw new RangeError(`keys of ${one.length} and ${other.length} bytes: both must have 16, or both 32`);
  }
  return Buffer.from(one.map((byte, index) => byte ^ (other[index] ?? 0)));
}

/** What proves that U belongs to K and is for this agent: HMAC-SHA384 of the id under the raw bytes of K, 48 bytes. */
export const keyAuthTag = (k: Uint8Array, agentId: string): Buffer =>
  createHmac('sha384', k).update(agentId, 'utf8').digest();

/** Whether `tag` is the tag of K for this agent; in constant time. */
export function isKeyAuthTag(k: Uint8Array, agentId: string, tag: Uint8Array): boolean {
  return tag.length === AUTH_TAG_BYTES && timingSafeEqual(keyAuthTag(k, agentId), tag);
}

/** Answer of `keys/verify`: lower-case hex HMAC-SHA384 of the challenge under K. */
export const keyVerifyHmac = (k: Uint8Array, challenge: string): string =>
  createHmac('sha384', k).update(challenge, 'utf8').digest('hex');

/** Whether an agent's answer to `challenge` shows that it has K; in constant time. */
export function isKeyVerifyHmac(k: Uint8Array, challenge: string, answer: string): boolean {
  const expected = Buffer.from(keyVerifyHmac(k, challenge));
  const given = Buffer.from(answer);
  return expected.length === given.length && timingSafeEqual(expected, given);
}
