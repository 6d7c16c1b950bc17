import { createHash, hash as hashOnce } from 'node:crypto';

/** Hash algorithms by the names that Keylime, IMA and node:crypto share, with their digest sizes in bytes. */
export const DIGEST_SIZES = { sha1: 20, sha256: 32, sha384: 48, sha512: 64, sm3_256: 32 } as const;

export type HashAlgorithm = keyof typeof DIGEST_SIZES;

export const isHashAlgorithm = (name: string): name is HashAlgorithm => Object.hasOwn(DIGEST_SIZES, name);

/** Digest size of `algorithm` in bytes. */
export const digestSize = (algorithm: HashAlgorithm): number => DIGEST_SIZES[algorithm];

/** What node:crypto calls `algorithm`. */
export const opensslName = (algorithm: HashAlgorithm): string => (algorithm === 'sm3_256' ? 'sm3' : algorithm);

/** Hash of the concatenation of `parts`. */
export function digest(algorithm: HashAlgorithm, ...parts: readonly Uint8Array[]): Buffer {
  const hash = createHash(opensslName(algorithm));
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** Hash of `data` in lower-case hex; for short data several times faster than `digest`. */
export const digestHex = (algorithm: HashAlgorithm, data: Uint8Array): string =>
  hashOnce(opensslName(algorithm), data, 'hex');

/** A PCR after one extend: `H(value || data)` (TPM 2.0 Part 1, 17.2). `data` is a digest of the bank's size. */
export const extend = (algorithm: HashAlgorithm, value: Uint8Array, data: Uint8Array): Buffer =>
  digest(algorithm, value, data);
