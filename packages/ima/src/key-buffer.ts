import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';

/**
 * The public key that an `ima-buf` entry of rule KEY_CHECK carries: a DER certificate, or a DER SubjectPublicKeyInfo, to
 * its last byte. `undefined` for other buffers. Neither the certificate's dates nor its issuer are looked at: whether the
 * key is trusted is decided by its digest. Source: Linux ima_asymmetric_keys.c `ima_post_key_create_or_update`.
 */
export function parseKeyBuffer(buffer: Uint8Array): KeyObject | undefined {
  // Both forms are a DER SEQUENCE; anything else need not be tried.
  if (buffer[0] !== 0x30) return undefined;
  try {
    const certificate = new X509Certificate(buffer);
    return certificate.raw.equals(buffer) ? certificate.publicKey : undefined;
  } catch {
    return parsePublicKey(Buffer.from(buffer));
  }
}

function parsePublicKey(der: Buffer): KeyObject | undefined {
  try {
    const key = createPublicKey({ key: der, format: 'der', type: 'spki' });
    return key.export({ format: 'der', type: 'spki' }).equals(der) ? key : undefined;
  } catch {
    return undefined;
  }
}
