import { createPublicKey, type KeyObject, randomBytes, type webcrypto, type X509Certificate } from 'node:crypto';
import type { CaOptions } from './ca-options.ts';
import type { Revoked } from './crl.ts';
import { PkiError } from './pki-error.ts';
import type { SubjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

/** What a certificate is for; its extended key usage says nothing else. One without a purpose has no such extension. */
export type Purpose = 'serverAuth' | 'clientAuth';

export type Issuer = { readonly certificate: X509Certificate; readonly key: KeyObject };

const DAY_MS = 86_400_000;
/** What is issued holds from an hour ago: peers whose clocks are behind take it at once. */
const EARLIER_MS = 3_600_000;
const CRL_NUMBER = '2.5.29.20';
const CURVES: { readonly [opensslName: string]: string } = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};
const CURVE_HASHES: { readonly [curve: string]: string } = {
  'P-256': 'SHA-256',
  'P-384': 'SHA-384',
  'P-521': 'SHA-512',
};
const SHA256_RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

/** A self-signed CA certificate, as the existing services make it, with serial number 1 (spec 07 section 6.3). */
export async function issueCaCertificate(
  key: KeyObject,
  options: CaOptions,
  now: Date,
  serial = 1,
  name: x509.Name = distinguishedName(options, options.caName),
): Promise<x509.X509Certificate> {
  const publicKey = await x509PublicKey(key);
  return x509.X509CertificateGenerator.create({
    serialNumber: serialHex(serial),
    subject: name,
    issuer: name,
    ...validity(now, options.caLifetimeDays),
    publicKey,
    signingKey: await signingKey(key),
    signingAlgorithm: signingAlgorithm(key),
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      new x509.CRLDistributionPointsExtension([options.crlUrl]),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.AuthorityKeyIdentifierExtension.create(publicKey),
    ],
  });
}

/**
 * A certificate for `key`, good for `purposes` and nothing else, signed by `issuer`. It begins no earlier and ends no later
 * than the issuer's own certificate.
 */
export async function issueCertificate(request: {
  readonly issuer: Issuer;
  readonly key: KeyObject;
  readonly commonName: string;
  readonly serial: number;
  readonly purposes: readonly Purpose[];
  readonly names: SubjectNames;
  readonly options: CaOptions;
  readonly now: Date;
}): Promise<x509.X509Certificate> {
  const { issuer, options } = request;
  const ca = certificateOf(issuer);
  const publicKey = await x509PublicKey(request.key);
  const { notBefore, notAfter } = validity(request.now, options.lifetimeDays);
  return x509.X509CertificateGenerator.create({
    serialNumber: serialHex(request.serial),
    subject: distinguishedName(options, request.commonName),
    issuer: ca.subjectName,
    notBefore: new Date(Math.max(notBefore.getTime(), ca.notBefore.getTime())),
    notAfter: new Date(Math.min(notAfter.getTime(), ca.notAfter.getTime())),
    publicKey,
    signingKey: await signingKey(issuer.key),
    signingAlgorithm: signingAlgorithm(issuer.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(keyUsage(request.key), true),
      ...extendedKeyUsage(request.purposes),
      subjectAlternativeNames(request.names),
      new x509.CRLDistributionPointsExtension([options.crlUrl]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await authorityKeyIdentifier(ca),
    ],
  });
}

/** A certificate that a key issues for itself, for receivers that know it and ask nobody else. For signatures only. */
export async function issueSelfSignedCertificate(request: {
  readonly key: KeyObject;
  readonly commonName: string;
  readonly options: CaOptions;
  readonly now: Date;
}): Promise<x509.X509Certificate> {
  const name = distinguishedName(request.options, request.commonName);
  return x509.X509CertificateGenerator.create({
    serialNumber: randomBytes(16).toString('hex'),
    subject: name,
    issuer: name,
    ...validity(request.now, request.options.caLifetimeDays),
    publicKey: await x509PublicKey(request.key),
    signingKey: await signingKey(request.key),
    signingAlgorithm: signingAlgorithm(request.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
    ],
  });
}

/** A CRL of the whole list of revoked certificates, valid until `nextUpdate`; `number` must grow from one to the next. */
export async function issueCrl(request: {
  readonly issuer: Issuer;
  readonly revoked: readonly Revoked[];
  readonly number: bigint;
  readonly now: Date;
  readonly nextUpdate: Date;
}): Promise<x509.X509Crl> {
  const ca = certificateOf(request.issuer);
  return x509.X509CrlGenerator.create({
    issuer: ca.subjectName,
    thisUpdate: earlier(request.now, EARLIER_MS),
    nextUpdate: request.nextUpdate,
    signingAlgorithm: signingAlgorithm(request.issuer.key),
    signingKey: await signingKey(request.issuer.key),
    entries: request.revoked.map(({ serial, revokedAt, reason }) => ({
      serialNumber: serialHex(BigInt(serial)),
      revocationDate: revokedAt,
      // RFC 5280 5.3.1: a reason that says nothing is left out.
      ...(reason ? { reason } : {}),
    })),
    extensions: [await authorityKeyIdentifier(ca), new x509.Extension(CRL_NUMBER, false, derInteger(request.number))],
  });
}

const certificateOf = ({ certificate }: Issuer): x509.X509Certificate =>
  new x509.X509Certificate(Uint8Array.from(certificate.raw));

/** To `days` days from `now`, and from `earlierMs` before it, in whole seconds as certificates have them. */
export const validity = (
  now: Date,
  days: number,
  earlierMs = EARLIER_MS,
): { readonly notBefore: Date; readonly notAfter: Date } => ({
  notBefore: earlier(now, earlierMs),
  notAfter: earlier(now, -days * DAY_MS),
});

const earlier = (now: Date, byMs: number): Date => new Date(Math.floor(now.getTime() / 1000) * 1000 - byMs);

/** Alternative names as the extension, host names first. */
export const subjectAlternativeNames = (names: SubjectNames): x509.SubjectAlternativeNameExtension =>
  new x509.SubjectAlternativeNameExtension([
    ...names.dns.map((value) => ({ type: 'dns' as const, value })),
    ...names.ip.map((value) => ({ type: 'ip' as const, value })),
  ]);

/** A random positive serial number of 16 bytes, in hexadecimal. */
export function randomSerialHex(): string {
  const serial = randomBytes(16);
  serial.writeUInt8(((serial[0] ?? 0) & 0x3f) | 0x40, 0);
  return serial.toString('hex');
}

/** `key`'s public half as the X.509 library takes it. */
export const x509PublicKey = async (key: KeyObject): Promise<x509.PublicKey> =>
  new x509.PublicKey(Uint8Array.from(createPublicKey(key).export({ format: 'der', type: 'spki' })));

/**
 * `key` as the X.509 library takes it for signatures: RSA with PKCS#1 v1.5 and SHA-256, ECDSA on a NIST curve, or Ed25519.
 * Throws `PkiError` `wrong_key_type` for another key.
 */
export async function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  const { name } = signingAlgorithm(key);
  if (name !== 'ECDSA') return key.toCryptoKey(name === 'Ed25519' ? name : SHA256_RSA, false, ['sign']);
  return key.toCryptoKey({ name, namedCurve: curveOf(key) ?? '' }, false, ['sign']);
}

/** The signature algorithm that goes with `key`. Throws `PkiError` `wrong_key_type`. */
export function signingAlgorithm(key: KeyObject): { readonly name: string; readonly hash: string } {
  if (key.asymmetricKeyType === 'rsa') return SHA256_RSA;
  if (key.asymmetricKeyType === 'ed25519') return { name: 'Ed25519', hash: 'SHA-512' };
  const curve = curveOf(key);
  if (curve !== undefined) return { name: 'ECDSA', hash: CURVE_HASHES[curve] ?? 'SHA-256' };
  throw new PkiError('wrong_key_type', `A key of type ${key.asymmetricKeyType} cannot sign certificates here.`);
}

const curveOf = (key: KeyObject): string | undefined => CURVES[key.asymmetricKeyDetails?.namedCurve ?? ''];

/** RSA keys may also encrypt a session's key in old TLS; the others only sign. */
const keyUsage = (key: KeyObject): x509.KeyUsageFlags =>
  key.asymmetricKeyType === 'rsa'
    ? x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment
    : x509.KeyUsageFlags.digitalSignature;

const extendedKeyUsage = (purposes: readonly Purpose[]): readonly x509.Extension[] =>
  purposes.length === 0
    ? []
    : [new x509.ExtendedKeyUsageExtension(purposes.map((purpose) => x509.ExtendedKeyUsage[purpose]))];

// The order of the parts is the existing services' one: C, CN, ST, L, O, OU.
const distinguishedName = (options: CaOptions, commonName: string): x509.Name =>
  new x509.Name([
    { C: [{ printableString: options.country }] },
    { CN: [{ utf8String: commonName }] },
    { ST: [{ utf8String: options.state }] },
    { L: [{ utf8String: options.locality }] },
    { O: [{ utf8String: options.organization }] },
    { OU: [{ utf8String: options.organizationalUnit }] },
  ]);

async function authorityKeyIdentifier(certificate: x509.X509Certificate): Promise<x509.Extension> {
  // The issuer's own identifier, however it was computed, is what a peer compares with.
  const own = certificate.getExtension(x509.SubjectKeyIdentifierExtension);
  return own
    ? new x509.AuthorityKeyIdentifierExtension(own.keyId)
    : x509.AuthorityKeyIdentifierExtension.create(certificate.publicKey);
}

function serialHex(serial: number | bigint): string {
  const hex = serial.toString(16);
  const even = hex.length % 2 === 0 ? hex : `0${hex}`;
  return Number.parseInt(even.slice(0, 2), 16) > 0x7f ? `00${even}` : even;
}

function derInteger(value: bigint): Uint8Array<ArrayBuffer> {
  const bytes = Buffer.from(serialHex(value), 'hex');
  return Uint8Array.from([2, bytes.length, ...bytes]);
}
