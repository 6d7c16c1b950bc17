import { DecodeError } from '@keylime/core/codec';
import { DER, type DerElement, expectTag, oidText, readElement, readElements, timeOf } from '@keylime/core/der';

/** Why a certificate was revoked (RFC 5280 section 5.3.1), for those reasons that a person can give. */
export const REVOCATION_REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  privilegeWithdrawn: 9,
} as const;
export type RevocationReason = keyof typeof REVOCATION_REASONS;

/** A certificate that a CRL lists. `serial` is decimal, `reason` a CRLReason (RFC 5280 section 5.3.1). */
export type Revoked = { readonly serial: string; readonly revokedAt: Date; readonly reason?: number | undefined };

/** What a CRL says. Nothing of it is verified. `number` is `undefined` where there is none that RFC 5280 allows. */
export type Crl = {
  readonly der: Buffer;
  readonly thisUpdate: Date;
  readonly nextUpdate: Date | undefined;
  readonly number: bigint | undefined;
  readonly revoked: readonly Revoked[];
};

const CRL_NUMBER = '2.5.29.20';
const REASON_CODE = '2.5.29.21';
const EXTENSIONS = 0xa0;
const ENUMERATED = 0x0a;
/** RFC 5280 section 5.2.3. */
const LONGEST_NUMBER = 20;

const isTime = (element: DerElement | undefined): boolean =>
  element?.tag === DER.utcTime || element?.tag === DER.generalizedTime;

/** The CertificateList (RFC 5280 section 5.1) in `der`. Here and not of the X.509 library, which takes long to load. @throws DecodeError */
export function decodeCrl(der: Buffer): Crl {
  const [tbs] = readElements(expectTag(readElement(der, 'crl'), DER.sequence, 'crl').content, 'crl');
  const fields = [...readElements(expectTag(tbs, DER.sequence, 'tbsCertList').content, 'tbsCertList')];
  if (fields[0]?.tag === DER.integer) fields.shift(); // version
  const [, , thisUpdate, ...rest] = fields; // signature algorithm, issuer
  const nextUpdate = isTime(rest[0]) ? rest.shift() : undefined;
  const list = rest[0]?.tag === DER.sequence ? rest.shift() : undefined;
  const [wrapped] = rest;
  if (wrapped !== undefined && wrapped.tag !== EXTENSIONS) throw new DecodeError('crlExtensions', 0, 'unknown field');
  const extensions = wrapped === undefined ? [] : readElements(readElement(wrapped.content).content, 'crlExtensions');
  const number = extensionValue(extensions, CRL_NUMBER);
  return {
    der,
    thisUpdate: timeOf(thisUpdate, 'thisUpdate'),
    nextUpdate: nextUpdate && timeOf(nextUpdate, 'nextUpdate'),
    number: number?.tag === DER.integer && number.content.length <= LONGEST_NUMBER ? unsigned(number) : undefined,
    revoked: list === undefined ? [] : readElements(list.content, 'revokedCertificates').map(decodeEntry),
  };
}

function decodeEntry({ content }: DerElement): Revoked {
  const [serial, date, extensions] = readElements(content, 'revokedCertificate');
  const reason = extensions && extensionValue(readElements(extensions.content, 'crlEntryExtensions'), REASON_CODE);
  return {
    serial: unsigned(expectTag(serial, DER.integer, 'userCertificate')).toString(),
    revokedAt: timeOf(date, 'revocationDate'),
    reason: reason?.tag === ENUMERATED ? reason.content[0] : undefined,
  };
}

/** What is in the OCTET STRING of an extension. */
function extensionValue(extensions: readonly DerElement[], oid: string): DerElement | undefined {
  for (const { content } of extensions) {
    const parts = readElements(content, 'extension');
    const value = parts.at(-1);
    if (parts[0]?.tag !== DER.oid || oidText(parts[0].content) !== oid || value === undefined) continue;
    return readElement(value.content, oid);
  }
  return undefined;
}

const unsigned = ({ content }: DerElement): bigint => BigInt(`0x${content.toString('hex') || '0'}`);

/** A CRL in PEM (RFC 7468 section 6). */
export const crlPem = (der: Buffer): string =>
  `-----BEGIN X509 CRL-----\n${der.toString('base64').replaceAll(/.{1,64}/g, '$&\n')}-----END X509 CRL-----\n`;
