import { constants, createHash, type KeyObject, publicDecrypt } from 'node:crypto';
import { RecentMap } from '@keylime/core/recent-map';
import { LONGEST_ECDSA_SIGNATURE, verifyEcdsa } from './ecdsa.ts';
import { sameKey } from './same-key.ts';
import type { ImaSignature } from './signature.ts';

/** DER of DigestInfo before the digest itself (RFC 8017 section 9.2, note 1; NIST CSOR for SHA-3). */
const DIGEST_INFO_PREFIXES: ReadonlyMap<string, Buffer> = new Map(
  [
    ['md5', '3020300c06082a864886f70d020505000410'],
    ['sha1', '3021300906052b0e03021a05000414'],
    ['sha224', '302d300d06096086480165030402040500041c'],
    ['sha256', '3031300d060960864801650304020105000420'],
    ['sha384', '3041300d060960864801650304020205000430'],
    ['sha512', '3051300d060960864801650304020305000440'],
    ['sha3-256', '3031300d060960864801650304020805000420'],
    ['sha3-384', '3041300d060960864801650304020905000430'],
    ['sha3-512', '3051300d060960864801650304020a05000440'],
  ].map(([name = '', hex = '']) => [name, Buffer.from(hex, 'hex')]),
);

/** Verdicts of late: in a fleet the same files carry the same signatures, and a list that goes on is not begun anew. */
const verdicts = new RecentMap<string, boolean>(100_000);
const numbersOfKeys = new WeakMap<KeyObject, number>();
let lastKeyNumber = 0;

function numberOf(key: KeyObject): number {
  const first = sameKey(key);
  const number = numbersOfKeys.get(first) ?? ++lastKeyNumber;
  numbersOfKeys.set(first, number);
  return number;
}

/**
 * Whether `signature` is by `key` over `digest`, a digest made with the algorithm of the signature's header. For version
 * 3 what is signed is H(type byte, hash id byte, digest) (Linux security/integrity/digsig.c `calc_file_id_hash`).
 */
export function verifyImaSignature(signature: ImaSignature, digest: Uint8Array, key: KeyObject): boolean {
  const { hashAlgorithm, typeId, hashId, version } = signature;
  const signed =
    version === 2 ? digest : createHash(hashAlgorithm).update(Uint8Array.of(typeId, hashId)).update(digest).digest();
  return verifyDigest(signature.signature, hashAlgorithm, signed, key);
}

/** Whether a signature by `key` can be of that size: a cheap question before the dear one. */
export function isSizeFor(signature: Uint8Array, key: KeyObject): boolean {
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = key;
  return type === 'rsa'
    ? signature.length === Math.ceil((details?.modulusLength ?? 0) / 8)
    : signature.length <= LONGEST_ECDSA_SIGNATURE;
}

/** Whether `signature` is by `key` over a digest, made with `hashAlgorithm`. Never throws, whatever the bytes are. */
export function verifyDigest(
  signature: Uint8Array,
  hashAlgorithm: string,
  digest: Uint8Array,
  key: KeyObject,
): boolean {
  // It may have a megabyte, of which nothing need be looked at.
  if (!isSizeFor(signature, key)) return false;
  const question = `${numberOf(key)} ${hashAlgorithm} ${Buffer.from(digest).toString('hex')} `;
  const name = createHash('sha256').update(question).update(signature).digest('base64');
  const known = verdicts.get(name);
  if (known !== undefined) return known;
  const verdict =
    key.asymmetricKeyType === 'rsa'
      ? verifyRsa(signature, hashAlgorithm, digest, key)
      : verifyEcdsa(signature, digest, key);
  verdicts.set(name, verdict);
  return verdict;
}

/** RSASSA-PKCS1-v1_5 by comparing the whole encoded message: nothing in it is left to a parser. */
function verifyRsa(signature: Uint8Array, hashAlgorithm: string, digest: Uint8Array, key: KeyObject): boolean {
  const prefix = DIGEST_INFO_PREFIXES.get(hashAlgorithm);
  const sizeBytes = Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8);
  if (prefix === undefined || prefix[prefix.length - 1] !== digest.length) return false;
  const padding = sizeBytes - 3 - prefix.length - digest.length;
  if (padding < 8) return false;
  const wanted = Buffer.concat([Buffer.of(0, 1), Buffer.alloc(padding, 0xff), Buffer.of(0), prefix, digest]);
  try {
    return publicDecrypt({ key, padding: constants.RSA_NO_PADDING }, signature).equals(wanted);
  } catch {
    // A number that is not below the modulus.
    return false;
  }
}
