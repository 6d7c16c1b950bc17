import { createHash, createPrivateKey, createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { DER, readElement } from '@keylime/core/der';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { readCertificate } from '@keylime/identity/certificate';
import { OID } from '@keylime/identity/certificate-extensions';

/** A key that can check signatures of files: RSA, or ECDSA on one of `SIGNATURE_CURVES`. */
export type VerificationKey = {
  readonly key: KeyObject;
  /** What the headers of signatures call it, unsigned 32 bits. */
  readonly keyId: number;
};

/** Not a key at all, or a key of a kind that the kernel's IMA does not use. */
export type KeyProblem =
  | { readonly kind: 'not_a_key' }
  | { readonly kind: 'key_unsupported'; readonly keyType: string };

/** By node:crypto's names. secp256k1 is none of the kernel's, but test keys of the field are on it. */
export const SIGNATURE_CURVES: readonly string[] = ['prime256v1', 'secp384r1', 'secp521r1', 'secp256k1'];

/** OpenSSL's own limit for checking signatures. */
const MAX_RSA_BITS = 16_384;

/**
 * The key in a file or a buffer: a certificate, a public key (SubjectPublicKeyInfo or PKCS #1), or the public half of an
 * unencrypted private key, in DER to the last byte or in PEM, whatever the name of the file. Dates and issuer of a
 * certificate do not matter: whoever names the key trusts it.
 */
export function parseVerificationKey(bytes: Uint8Array): Parsed<VerificationKey, KeyProblem> {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return usable(certificateKey(buffer) ?? publicKey(buffer) ?? privateKey(buffer));
}

/** The key of a DER certificate or DER public key, as the kernel measures it; `not_a_key` for all else. */
export function parseMeasuredKey(bytes: Uint8Array): Parsed<VerificationKey, KeyProblem> {
  // Both are a DER SEQUENCE; anything else need not be tried.
  if (bytes[0] !== DER.sequence) return bad({ kind: 'not_a_key' });
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  return usable(certificateKey(buffer) ?? publicKey(buffer));
}

function usable(found: Found | undefined): Parsed<VerificationKey, KeyProblem> {
  if (found === undefined) return bad({ kind: 'not_a_key' });
  const { key, keyId } = found;
  const keyType = key === undefined ? 'unknown' : unsupportedType(key);
  if (key === undefined || keyType !== undefined)
    return bad({ kind: 'key_unsupported', keyType: keyType ?? 'unknown' });
  // [MUST] OpenSSL reads the point at infinity as a key, and throws at whoever asks what it is.
  const computed = attempt(() => computedKeyId(key));
  if (computed === undefined)
    return bad({ kind: 'key_unsupported', keyType: `${key.asymmetricKeyType} (no public key)` });
  return good({ key, keyId: keyId ?? computed });
}

/**
 * The last four bytes, big-endian, of the SHA-1 of the key: of RSAPublicKey (PKCS #1) or of the uncompressed point.
 * Source: ima-evm-utils `calc_keyid_v2`; RFC 5280 section 4.2.1.2, method 1.
 */
export function computedKeyId(key: KeyObject): number {
  const bytes = key.asymmetricKeyType === 'rsa' ? key.export({ format: 'der', type: 'pkcs1' }) : curvePoint(key);
  return createHash('sha1').update(bytes).digest().readUInt32BE(16);
}

/** `04 || X || Y` (SEC 1 section 2.3.3). */
export function curvePoint(key: KeyObject): Buffer {
  const { x = '', y = '' } = key.export({ format: 'jwk' });
  return Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')]);
}

/** `key` is `undefined` where a certificate holds one of a kind that node:crypto does not know. */
type Found = { readonly key: KeyObject | undefined; readonly keyId?: number | undefined };

function certificateKey(bytes: Buffer): Found | undefined {
  const certificate = attempt(() => new X509Certificate(bytes));
  if (certificate === undefined) return undefined;
  // node:crypto reads a certificate at the start of the bytes.
  if (bytes[0] === DER.sequence && certificate.raw.length !== bytes.length) return undefined;
  return { key: attempt(() => certificate.publicKey), keyId: subjectKeyId(certificate.raw) };
}

/** The last four bytes of the Subject Key Identifier; absent if there are fewer or they are zero. */
function subjectKeyId(der: Buffer): number | undefined {
  const read = readCertificate(der);
  const extension = read.ok ? read.value.extensions.get(OID.subjectKeyIdentifier) : undefined;
  const identifier = extension && attempt(() => readElement(extension.value).content);
  return identifier !== undefined && identifier.length >= 4
    ? identifier.readUInt32BE(identifier.length - 4) || undefined
    : undefined;
}

function publicKey(bytes: Buffer): Found | undefined {
  const key =
    bytes[0] === DER.sequence
      ? (wholeKey(bytes, 'spki') ?? wholeKey(bytes, 'pkcs1'))
      : isPem(bytes, 'PUBLIC KEY')
        ? attempt(() => rewritable(createPublicKey(bytes)))
        : undefined;
  return key && { key };
}

function wholeKey(der: Buffer, type: 'spki' | 'pkcs1'): KeyObject | undefined {
  const key = attempt(() => rewritable(createPublicKey({ key: der, format: 'der', type })));
  // OpenSSL ignores what comes after a key, and takes private keys too.
  const encoded = key && attempt(() => key.export({ format: 'der', type }));
  return encoded?.equals(der) ? key : undefined;
}

/** Of PKCS #1, node:crypto makes a key that it cannot write as PKCS #1 again. */
const rewritable = (key: KeyObject): KeyObject =>
  createPublicKey({ key: key.export({ format: 'der', type: 'spki' }), format: 'der', type: 'spki' });

function privateKey(bytes: Buffer): Found | undefined {
  if (bytes[0] !== DER.sequence) {
    if (!isPem(bytes, 'PRIVATE KEY')) return undefined;
    const key = attempt(() => createPublicKey(createPrivateKey(bytes)));
    return key && { key };
  }
  if (attempt(() => readElement(bytes).bytes.length) !== bytes.length) return undefined;
  for (const type of ['pkcs8', 'sec1', 'pkcs1'] as const) {
    const key = attempt(() => createPublicKey(createPrivateKey({ key: bytes, format: 'der', type })));
    if (key !== undefined) return { key };
  }
  return undefined;
}

const isPem = (bytes: Buffer, label: string): boolean =>
  bytes.includes('-----BEGIN ') && bytes.includes(`${label}-----`);

function unsupportedType(key: KeyObject): string | undefined {
  const { asymmetricKeyType: type = 'unknown', asymmetricKeyDetails: details } = key;
  if (type === 'rsa') return (details?.modulusLength ?? 0) <= MAX_RSA_BITS ? undefined : 'rsa (too large)';
  const curve = details?.namedCurve ?? 'unknown';
  return type === 'ec' && SIGNATURE_CURVES.includes(curve) ? undefined : type === 'ec' ? `ec (${curve})` : type;
}

/** OpenSSL throws at whatever it cannot read; a caller's own mistake cannot reach it, for all input is bytes. */
function attempt<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
