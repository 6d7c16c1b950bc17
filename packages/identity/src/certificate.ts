import { createPublicKey, type KeyObject, X509Certificate } from 'node:crypto';
import { parseBase64 } from '@keylime/core/base64';
import { DecodeError } from '@keylime/core/codec';
import {
  DER,
  type DerElement,
  derProblem,
  expectTag,
  oidText,
  readElement,
  readElements,
  timeOf,
} from '@keylime/core/der';
import { bad, good, type Parsed } from '@keylime/core/parsed';

export type Extension = { readonly critical: boolean; readonly value: Buffer };

/** An X.509 certificate as it was received. Nothing in it is verified. The buffers are views of `der`. */
export type Certificate = {
  /** All bytes received, also those after the certificate. */
  readonly der: Buffer;
  /** What keeps `der` from being strict DER (X.690), if anything. */
  readonly malformed: string | undefined;
  /** Names as encoded (RFC 5280 4.1.2.4). */
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly serialNumber: Buffer;
  readonly notBefore: Date;
  readonly notAfter: Date;
  /** SubjectPublicKeyInfo as encoded. */
  readonly publicKeyInfo: Buffer;
  /** Object identifier in dotted form. */
  readonly signatureAlgorithm: string;
  /** By object identifier in dotted form. */
  readonly extensions: ReadonlyMap<string, Extension>;
  /** The parsed form of node:crypto, over the same bytes. */
  readonly x509: X509Certificate;
};

export type CertificateProblem = { readonly kind: 'certificate_unreadable'; readonly detail: string };

const VERSION = 0xa0;
const EXTENSIONS = 0xa3;

function readExtensions(element: DerElement | undefined): { extensions: Map<string, Extension>; malformed?: string } {
  const extensions = new Map<string, Extension>();
  let malformed: string | undefined;
  const list = element ? readElements(expectTag(readElement(element.content), DER.sequence, 'extensions').content) : [];
  for (const extension of list) {
    const [id, ...rest] = readElements(extension.content, 'extension');
    const oid = oidText(expectTag(id, DER.oid, 'extension.id').content, 'extension.id');
    if (extensions.has(oid)) throw new DecodeError('extension', 0, `${oid} occurs twice`); // RFC 5280 4.2
    const critical = rest[0]?.tag === DER.boolean ? rest[0] : undefined;
    if (critical?.content[0] === 0) malformed = 'a default value is encoded';
    const value = expectTag(rest[critical ? 1 : 0], DER.octetString, 'extension.value').content;
    extensions.set(oid, { critical: critical !== undefined && critical.content[0] !== 0, value });
  }
  return malformed === undefined ? { extensions } : { extensions, malformed };
}

/**
 * The certificate at the start of `der` (RFC 5280 section 4.1), in DER or in what the field takes for it.
 * @throws DecodeError if it has not the shape of a certificate; Error of node:crypto if OpenSSL cannot read it.
 */
function decodeCertificate(der: Buffer): Certificate {
  const whole = expectTag(readElement(der, 'certificate'), DER.sequence, 'certificate');
  const [tbs, algorithm] = readElements(whole.content, 'certificate');
  const fields = [...readElements(expectTag(tbs, DER.sequence, 'tbsCertificate').content, 'tbsCertificate')];
  if (fields[0]?.tag !== VERSION) fields.unshift({ tag: VERSION, content: Buffer.alloc(0), bytes: Buffer.alloc(0) });
  const [, serialNumber, , issuer, validity, subject, publicKeyInfo, ...optional] = fields;
  const [notBefore, notAfter] = readElements(expectTag(validity, DER.sequence, 'validity').content, 'validity');
  const [oid] = readElements(expectTag(algorithm, DER.sequence, 'signatureAlgorithm').content, 'signatureAlgorithm');
  const { extensions, malformed } = readExtensions(optional.find(({ tag }) => tag === EXTENSIONS));
  return {
    der,
    malformed: derProblem(der) ?? malformed,
    issuer: expectTag(issuer, DER.sequence, 'issuer').bytes,
    subject: expectTag(subject, DER.sequence, 'subject').bytes,
    serialNumber: expectTag(serialNumber, DER.integer, 'serialNumber').content,
    notBefore: timeOf(notBefore, 'validity.notBefore'),
    notAfter: timeOf(notAfter, 'validity.notAfter'),
    publicKeyInfo: expectTag(publicKeyInfo, DER.sequence, 'subjectPublicKeyInfo').bytes,
    signatureAlgorithm: oidText(expectTag(oid, DER.oid, 'signatureAlgorithm').content, 'signatureAlgorithm'),
    extensions,
    x509: new X509Certificate(whole.bytes),
  };
}

/** A certificate from its bytes, DER or nearly so (`malformed` tells). */
export function readCertificate(der: Buffer): Parsed<Certificate, CertificateProblem> {
  try {
    return good(decodeCertificate(der));
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    return bad({ kind: 'certificate_unreadable', detail: error.message });
  }
}

const PEM_BLOCK = /-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END CERTIFICATE-----/g;
const isPem = (text: string): boolean => text.includes('-----BEGIN');

/** The bytes of every PEM block CERTIFICATE in `text` (RFC 7468); `undefined` for one that is not base64. */
const pemBlocks = (text: string): readonly (Buffer | undefined)[] =>
  [...text.matchAll(PEM_BLOCK)].map(([, body = '']) => parseBase64(body.replace(/\s/g, '')));

/** The first certificate of PEM text, or the certificate of base64 DER. */
export function parseCertificate(text: string): Parsed<Certificate, CertificateProblem> {
  const der = isPem(text) ? pemBlocks(text)[0] : parseBase64(text.replace(/\s/g, ''));
  if (der === undefined || der.length === 0) {
    return bad({ kind: 'certificate_unreadable', detail: 'neither PEM nor base64 DER' });
  }
  return readCertificate(der);
}

/** Every certificate of PEM text, or the one of base64 DER, in the order given. */
export function parseCertificates(text: string): readonly Parsed<Certificate, CertificateProblem>[] {
  if (!isPem(text)) return [parseCertificate(text)];
  return pemBlocks(text).map((der) =>
    der === undefined
      ? bad({ kind: 'certificate_unreadable', detail: 'PEM block is not base64' })
      : readCertificate(der),
  );
}

/** PEM of `der`: 64 columns, LF, final newline (RFC 7468). */
export const certificatePem = (der: Uint8Array): string => {
  const body =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${body.join('\n')}\n-----END CERTIFICATE-----\n`;
};

/** rsaEncryption with its NULL parameters (RFC 3279 2.3.1). */
const RSA_ENCRYPTION = Buffer.from('300d06092a864886f70d0101010500', 'hex');
const RSA_OIDS = new Set(['1.2.840.113549.1.1.7', '1.2.840.113549.1.1.10']); // id-RSAES-OAEP, id-RSASSA-PSS

/**
 * The public key in `certificate`. EK certificates may name RSA as id-RSAES-OAEP, IAK ones as id-RSASSA-PSS (RFC 4055):
 * what a TPM public area is compared with is the bare key, so both are read as rsaEncryption.
 * `undefined` if node:crypto does not know the key's type or it is malformed.
 */
export function certificateKey({ publicKeyInfo }: Certificate): KeyObject | undefined {
  try {
    const [algorithm, key] = readElements(readElement(publicKeyInfo).content, 'subjectPublicKeyInfo');
    const [oid] = readElements(expectTag(algorithm, DER.sequence, 'algorithm').content, 'algorithm');
    const bits = expectTag(key, DER.bitString, 'subjectPublicKey').bytes;
    const isRsa = RSA_OIDS.has(oidText(expectTag(oid, DER.oid, 'algorithm').content));
    return createPublicKey({
      key: isRsa ? sequenceOf(RSA_ENCRYPTION, bits) : publicKeyInfo,
      format: 'der',
      type: 'spki',
    });
  } catch (error) {
    if (error instanceof Error) return undefined;
    throw error;
  }
}

function sequenceOf(...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const header = Buffer.from([DER.sequence, 0x82, content.length >> 8, content.length & 0xff]);
  return Buffer.concat([header, content]);
}

/** Whether `certificate` is for `key`. Only the key is compared; nothing is verified. */
export const certifiesKey = (certificate: Certificate, key: KeyObject): boolean =>
  certificateKey(certificate)?.equals(key) ?? false;
