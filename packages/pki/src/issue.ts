import { createPublicKey, type KeyObject, randomBytes, type webcrypto } from 'node:crypto';
import { PkiError } from './pki-error.ts';
import type { SubjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

/** Options of the automatic CA, named in `[ca]` of the configuration (spec 07 section 2.2). */
export type CaOptions = {
  readonly country: string;
  readonly caName: string;
  readonly state: string;
  readonly locality: string;
  readonly organization: string;
  readonly organizationalUnit: string;
  readonly caLifetimeDays: number;
  readonly lifetimeDays: number;
  /** RSA size of the CA's and the certificates' keys. */
  readonly bits: number;
  /** CRL distribution point that stands in every certificate. */
  readonly crlUrl: string;
};

export const DEFAULT_CA_OPTIONS: CaOptions = {
  country: 'US',
  caName: 'Keylime Certificate Authority',
  state: 'MA',
  locality: 'Lexington',
  organization: 'Keylime',
  organizationalUnit: '53',
  caLifetimeDays: 3650,
  lifetimeDays: 365,
  bits: 2048,
  crlUrl: 'http://localhost:38080/crl',
};

/** What a certificate is for; its extended key usage says nothing else. */
export type Purpose = 'serverAuth' | 'clientAuth';

export type Issuer = { readonly certificate: x509.X509Certificate; readonly key: KeyObject };

const DAY_MS = 86_400_000;
const CRL_NUMBER = '2.5.29.20';
const CURVES: { readonly [opensslName: string]: string } = {
  prime256v1: 'P-256',
  secp384r1: 'P-384',
  secp521r1: 'P-521',
};
const SHA256_RSA = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };

/** A self-signed CA certificate with serial number 1, as the existing services make it (spec 07 section 6.3). */
export async function issueCaCertificate(key: KeyObject, options: CaOptions, now: Date): Promise<x509.X509Certificate> {
  const publicKey = await x509PublicKey(key);
  const name = distinguishedName(options, options.caName);
  return x509.X509CertificateGenerator.create({
    serialNumber: '01',
    subject: name,
    issuer: name,
    ...validity(now, options.caLifetimeDays),
    publicKey,
    signingKey: await signingKey(key),
    signingAlgorithm: SHA256_RSA,
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
 * A certificate for `key`, good for `purpose` and nothing else, signed by `issuer`. It ends no later than the issuer's own
 * certificate.
 */
export async function issueCertificate(request: {
  readonly issuer: Issuer;
  readonly key: KeyObject;
  readonly commonName: string;
  readonly serial: number;
  readonly purpose: Purpose;
  readonly names: SubjectNames;
  readonly options: CaOptions;
  readonly now: Date;
}): Promise<x509.X509Certificate> {
  const { issuer, options } = request;
  const publicKey = await x509PublicKey(request.key);
  const { notBefore, notAfter } = validity(request.now, options.lifetimeDays);
  return x509.X509CertificateGenerator.create({
    serialNumber: serialHex(request.serial),
    subject: distinguishedName(options, request.commonName),
    issuer: issuer.certificate.subjectName,
    notBefore,
    notAfter: new Date(Math.min(notAfter.getTime(), issuer.certificate.notAfter.getTime())),
    publicKey,
    signingKey: await signingKey(issuer.key),
    signingAlgorithm: SHA256_RSA,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature | x509.KeyUsageFlags.keyEncipherment, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[request.purpose]]),
      subjectAlternativeNames(request.names),
      new x509.CRLDistributionPointsExtension([options.crlUrl]),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
      await authorityKeyIdentifier(issuer.certificate),
    ],
  });
}

/** A CRL of the whole list of revoked serial numbers (decimal), valid until `nextUpdate`. */
export async function issueCrl(request: {
  readonly issuer: Issuer;
  readonly revoked: readonly { readonly serial: string; readonly revokedAt: Date }[];
  readonly now: Date;
  readonly nextUpdate: Date;
}): Promise<x509.X509Crl> {
  return x509.X509CrlGenerator.create({
    issuer: request.issuer.certificate.subjectName,
    thisUpdate: request.now,
    nextUpdate: request.nextUpdate,
    signingAlgorithm: SHA256_RSA,
    signingKey: await signingKey(request.issuer.key),
    entries: request.revoked.map(({ serial, revokedAt }) => ({
      serialNumber: serialHex(BigInt(serial)),
      revocationDate: revokedAt,
    })),
    extensions: [
      await authorityKeyIdentifier(request.issuer.certificate),
      // Seconds since 1970 only grow, and need no counter that two issuers would have to share.
      new x509.Extension(CRL_NUMBER, false, derInteger(BigInt(Math.floor(request.now.getTime() / 1000)))),
    ],
  });
}

/** `days` days from `now`, in whole seconds as certificates have them. */
export function validity(now: Date, days: number): { readonly notBefore: Date; readonly notAfter: Date } {
  const seconds = Math.floor(now.getTime() / 1000) * 1000;
  return { notBefore: new Date(seconds), notAfter: new Date(seconds + days * DAY_MS) };
}

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
 * `key` as the X.509 library takes it for signatures: RSA with PKCS#1 v1.5 and SHA-256, or ECDSA on a NIST curve. Throws
 * `PkiError` `wrong_key_type` for another key.
 */
export async function signingKey(key: KeyObject): Promise<webcrypto.CryptoKey> {
  if (key.asymmetricKeyType === 'rsa') return key.toCryptoKey(SHA256_RSA, false, ['sign']);
  const namedCurve = CURVES[key.asymmetricKeyDetails?.namedCurve ?? ''];
  if (namedCurve === undefined) {
    throw new PkiError('wrong_key_type', `A key of type ${key.asymmetricKeyType} cannot sign certificates here.`);
  }
  return key.toCryptoKey({ name: 'ECDSA', namedCurve }, false, ['sign']);
}

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
