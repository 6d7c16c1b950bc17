import { createHash, type KeyObject } from 'node:crypto';
import { DecodeError } from '@keylime/core/codec';
import { DER, type DerElement, expectTag, oidText, readElement, readElements } from '@keylime/core/der';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { verifyDigest } from './verify-signature.ts';

/** A signature appended to a file, such as a kernel module: PKCS #7 about content that is elsewhere. Nothing is verified. */
export type AppendedSignature = {
  readonly signers: readonly AppendedSigner[];
};

/** One of those who signed: who it says it is, and what it signed. */
export type AppendedSigner = {
  /** The end of the signer's subject key identifier; absent where the signer is named by issuer and serial number. */
  readonly keyId: number | undefined;
  /** Of the signer's certificate, lower-case hex; absent where the signer is named by its key identifier. */
  readonly serialNumber?: string;
  /** As the measurement list prints it. */
  readonly hashAlgorithm: string;
  /** Digest of the content and what is signed instead of it; absent where the content itself is signed. */
  readonly attributes?: { readonly messageDigest: Buffer; readonly signedBytes: Buffer };
  readonly signature: Buffer;
};

const OID = {
  signedData: '1.2.840.113549.1.7.2',
  data: '1.2.840.113549.1.7.1',
  messageDigest: '1.2.840.113549.1.9.4',
} as const;

const HASHES: ReadonlyMap<string, string> = new Map([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.4', 'sha224'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
  ['2.16.840.1.101.3.4.2.8', 'sha3-256'],
  ['2.16.840.1.101.3.4.2.9', 'sha3-384'],
  ['2.16.840.1.101.3.4.2.10', 'sha3-512'],
]);

/** Identifier octets of the context-specific tags 0 and 1, by the structure that they stand in. */
const CONTENT = 0xa0;
const CERTIFICATES = 0xa0;
const CRLS = 0xa1;
const SUBJECT_KEY_ID = 0x80;
const SIGNED_ATTRIBUTES = 0xa0;
const UNSIGNED_ATTRIBUTES = 0xa1;

/** One file has one signer or two. */
const MOST_SIGNERS = 8;

/**
 * Decodes the field `modsig`: ContentInfo with detached SignedData (RFC 5652 sections 3 and 5), as `scripts/sign-file` of
 * Linux makes it. Certificates in it are passed over: who signs is trusted by the keyring and by nothing else.
 */
export function parseAppendedSignature(bytes: Uint8Array): Parsed<AppendedSignature, 'pkcs7'> {
  try {
    return good({ signers: readSigners(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)) });
  } catch (error) {
    if (error instanceof DecodeError) return bad('pkcs7');
    throw error;
  }
}

function readSigners(bytes: Buffer): readonly AppendedSigner[] {
  const whole = expectTag(readElement(bytes), DER.sequence, 'ContentInfo');
  if (whole.bytes.length !== bytes.length) fail('ContentInfo', 'bytes after it');
  const [type, content] = readElements(whole.content, 'ContentInfo');
  expectOid(type, OID.signedData, 'contentType');
  const signedData = readElement(expectTag(content, CONTENT, 'content').content, 'SignedData');
  const fields = readElements(expectTag(signedData, DER.sequence, 'SignedData').content, 'SignedData');
  const [version, digestAlgorithms, encapsulated, ...rest] = fields;
  expectTag(version, DER.integer, 'version');
  expectTag(digestAlgorithms, DER.set, 'digestAlgorithms');
  const contentInfo = readElements(expectTag(encapsulated, DER.sequence, 'encapContentInfo').content);
  expectOid(contentInfo[0], OID.data, 'eContentType');
  if (contentInfo.length !== 1) fail('encapContentInfo', 'the content is not elsewhere');
  const infos = rest.filter(({ tag }) => tag !== CERTIFICATES && tag !== CRLS);
  const signers = readElements(expectTag(infos[0], DER.set, 'signerInfos').content, 'signerInfos');
  if (infos.length !== 1 || signers.length === 0 || signers.length > MOST_SIGNERS) fail('signerInfos', 'not 1 to 8');
  return signers.map(readSigner);
}

function readSigner(info: DerElement): AppendedSigner {
  const fields = [...readElements(expectTag(info, DER.sequence, 'SignerInfo').content, 'SignerInfo')];
  expectTag(fields.shift(), DER.integer, 'version');
  const name = fields.shift();
  const [hash] = readElements(expectTag(fields.shift(), DER.sequence, 'digestAlgorithm').content);
  const hashAlgorithm = HASHES.get(oidText(expectTag(hash, DER.oid, 'digestAlgorithm').content));
  const attributes = fields[0]?.tag === SIGNED_ATTRIBUTES ? fields.shift() : undefined;
  expectTag(fields.shift(), DER.sequence, 'signatureAlgorithm');
  const signature = expectTag(fields.shift(), DER.octetString, 'signature').content;
  if (fields.some(({ tag }) => tag !== UNSIGNED_ATTRIBUTES)) fail('SignerInfo', 'an unknown field');
  if (hashAlgorithm === undefined) return fail('digestAlgorithm', 'not one that the kernel signs with');
  return {
    ...(name?.tag === SUBJECT_KEY_ID ? { keyId: endOf(name.content) } : { keyId: undefined, ...serialOf(name) }),
    hashAlgorithm,
    signature,
    ...(attributes && { attributes: readAttributes(attributes) }),
  };
}

/** Of IssuerAndSerialNumber. */
function serialOf(name: DerElement | undefined): { readonly serialNumber: string } {
  const [issuer, serial] = readElements(expectTag(name, DER.sequence, 'sid').content, 'sid');
  expectTag(issuer, DER.sequence, 'issuer');
  return { serialNumber: expectTag(serial, DER.integer, 'serialNumber').content.toString('hex') };
}

const endOf = (identifier: Buffer): number =>
  identifier.length >= 4 ? identifier.readUInt32BE(identifier.length - 4) : fail('sid', 'shorter than 4 bytes');

/** What is signed is the SET OF the attributes, not the tagged field in which they come (RFC 5652 section 5.4). */
function readAttributes(field: DerElement): { readonly messageDigest: Buffer; readonly signedBytes: Buffer } {
  const digests = readElements(field.content, 'signedAttrs').flatMap((attribute) => {
    const [type, values] = readElements(expectTag(attribute, DER.sequence, 'attribute').content, 'attribute');
    if (oidText(expectTag(type, DER.oid, 'attribute').content) !== OID.messageDigest) return [];
    return [expectTag(readElement(expectTag(values, DER.set, 'values').content), DER.octetString, 'messageDigest')];
  });
  const [digest] = digests;
  if (digest === undefined || digests.length > 1) return fail('signedAttrs', 'not one message digest');
  const signedBytes = Buffer.from(field.bytes);
  signedBytes[0] = DER.set;
  return { messageDigest: digest.content, signedBytes };
}

function expectOid(element: DerElement | undefined, wanted: string, path: string): void {
  const found = oidText(expectTag(element, DER.oid, path).content, path);
  if (found !== wanted) fail(path, `${wanted} wanted, ${found} found`);
}

function fail(path: string, problem: string): never {
  throw new DecodeError(path, 0, problem);
}

/** Whether the signature is by one of `keys` over content with this digest, which must be of the signer's algorithm. */
export function verifyAppendedSignature(
  { attributes, hashAlgorithm, signature }: AppendedSigner,
  digest: Uint8Array,
  keys: readonly KeyObject[],
): boolean {
  if (attributes !== undefined && !attributes.messageDigest.equals(digest)) return false;
  const signed = attributes ? createHash(hashAlgorithm).update(attributes.signedBytes).digest() : digest;
  return keys.some((key) => verifyDigest(signature, hashAlgorithm, signed, key));
}
