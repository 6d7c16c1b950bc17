import { randomBytes } from 'node:crypto';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
const LENGTH = 20;

/** 20 characters of `A-Z a-z 0-9`, uniform: 119 bits. Agents accept nothing but letters and digits. */
export function newNonce(random: (size: number) => Uint8Array = randomBytes): string {
  let nonce = '';
  while (nonce.length < LENGTH) {
    for (const byte of random(2 * LENGTH)) {
      // 248 = 4 * 62: bytes above would make the first letters likelier.
      if (byte < 248 && nonce.length < LENGTH) nonce += ALPHABET[byte % ALPHABET.length];
    }
  }
  return nonce;
}
