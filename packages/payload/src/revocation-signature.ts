import { constants, type KeyObject, sign, verify } from 'node:crypto';
import { parseBase64 } from '@keylime/core/base64';

const HASH_BYTES = 32;

/**
 * Signature of a revocation message: RSASSA-PSS with SHA-256, MGF1 with SHA-256 and the longest salt that fits, over the
 * UTF-8 bytes of `msg`; base64. Source: spec 06 section 4.1. Throws TypeError if the key is not an RSA private key.
 */
export function signRevocation(key: KeyObject, msg: string): string {
  return sign('sha256', Buffer.from(msg), pss(key)).toString('base64');
}

/** Whether `signature` was made so for `msg` by the owner of `key` (public, RSA). An empty signature never is. */
export function isRevocationSigned(key: KeyObject, msg: string, signature: string): boolean {
  const bytes = parseBase64(signature);
  return bytes !== undefined && bytes.length > 0 && verify('sha256', Buffer.from(msg), pss(key), bytes);
}

function pss(key: KeyObject) {
  const modulusBits = key.asymmetricKeyDetails?.modulusLength;
  if (key.asymmetricKeyType !== 'rsa' || modulusBits === undefined) {
    throw new TypeError(`revocation messages are signed with RSA, not with a key of type ${key.asymmetricKeyType}`);
  }
  // The length is named, for OpenSSL would otherwise verify a salt of any length. RFC 8017 9.1.1: emLen - hLen - 2.
  const saltLength = Math.ceil((modulusBits - 1) / 8) - HASH_BYTES - 2;
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
}
