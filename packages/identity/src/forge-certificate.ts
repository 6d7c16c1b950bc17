import { constants, createPublicKey, type KeyObject, sign } from 'node:crypto';

/** Certificates from DER parts, well formed or not. For tests only: nothing here makes a certificate fit for use. */

const lengthOf = (size: number): Buffer => {
  if (size < 0x80) return Buffer.from([size]);
  const bytes = Buffer.from(size.toString(16).padStart(size > 0xff ? 4 : 2, '0'), 'hex');
  return Buffer.concat([Buffer.from([0x80 | bytes.length]), bytes]);
};
export const tlv = (tag: number, ...parts: readonly Uint8Array[]): Buffer => {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), lengthOf(content.length), content]);
};
const hex = (text: string): Buffer => Buffer.from(text, 'hex');
export const oid = (dotted: string): Buffer => {
  const [first = 0, second = 0, ...rest] = dotted.split('.').map(Number);
  const arcs = [first * 40 + second, ...rest].map((arc) => {
    const bytes = [arc & 0x7f];
    for (let left = arc >> 7; left > 0; left >>= 7) bytes.unshift((left & 0x7f) | 0x80);
    return Buffer.from(bytes);
  });
  return tlv(0x06, ...arcs);
};

const attribute = (type: string, value: string): Buffer => tlv(0x30, oid(type), tlv(0x0c, Buffer.from(value)));
/** A Name with one RDN, the common name. */
export const commonName = (name: string): Buffer => tlv(0x30, tlv(0x31, attribute('2.5.4.3', name)));
/** A Name whose only RDN holds two attributes in the wrong order, as some EK certificates of the field have it. */
export const unorderedName = (name: string): Buffer =>
  tlv(0x30, tlv(0x31, attribute('2.5.4.10', 'Vendor'), attribute('2.5.4.3', name)));

export const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
  tlv(0x30, oid(id), ...(critical ? [tlv(0x01, hex('ff'))] : []), tlv(0x04, value));
export const caExtension = (pathLength?: number): Buffer =>
  extension(
    '2.5.29.19',
    true,
    tlv(0x30, tlv(0x01, hex('ff')), ...(pathLength === undefined ? [] : [tlv(0x02, Buffer.from([pathLength]))])),
  );
/** keyUsage with keyCertSign, or with digitalSignature only. */
export const keyUsage = (mayCertify: boolean): Buffer =>
  extension('2.5.29.15', true, tlv(0x03, hex(mayCertify ? '0204' : '0780')));
/** subjectAltName with a HardwareModuleName of the given type and serial number. */
export const hardwareName = (type: string, serialNumber: Uint8Array): Buffer => {
  const value = tlv(0x30, oid(type), tlv(0x04, serialNumber));
  return extension('2.5.29.17', true, tlv(0x30, tlv(0xa0, oid('1.3.6.1.5.5.7.8.4'), tlv(0xa0, value))));
};

/** The SubjectPublicKeyInfo of an RSA `key` under another algorithm identifier, such as id-RSAES-OAEP. */
export const publicKeyInfoAs = (key: KeyObject, algorithm: string): Buffer =>
  tlv(0x30, tlv(0x30, oid(algorithm)), tlv(0x03, hex('00'), key.export({ format: 'der', type: 'pkcs1' })));

const PSS_SHA256 = tlv(
  0x30,
  oid('1.2.840.113549.1.1.10'),
  tlv(
    0x30,
    tlv(0xa0, tlv(0x30, oid('2.16.840.1.101.3.4.2.1'))),
    tlv(0xa1, tlv(0x30, oid('1.2.840.113549.1.1.8'), tlv(0x30, oid('2.16.840.1.101.3.4.2.1')))),
    tlv(0xa2, tlv(0x02, hex('20'))),
  ),
);

/** DER of a certificate for `key` or `publicKeyInfo` signed by `signer`, with SHA-256 unless `signWith` says otherwise. */
export function forgeCertificate(parts: {
  readonly subject: Buffer;
  readonly issuer: Buffer;
  readonly key: KeyObject;
  readonly signer: KeyObject;
  readonly publicKeyInfo?: Buffer;
  readonly extensions?: readonly Buffer[];
  readonly notAfter?: string;
  readonly signWith?: 'pss' | 'sha1';
}): Buffer {
  const isRsa = parts.signer.asymmetricKeyType === 'rsa';
  const pss = parts.signWith === 'pss';
  const rsaOid = parts.signWith === 'sha1' ? '1.2.840.113549.1.1.5' : '1.2.840.113549.1.1.11';
  const algorithm = pss ? PSS_SHA256 : tlv(0x30, ...(isRsa ? [oid(rsaOid), tlv(0x05)] : [oid('1.2.840.10045.4.3.2')]));
  const publicKey = parts.key.type === 'private' ? createPublicKey(parts.key) : parts.key;
  const tbs = tlv(
    0x30,
    ...(parts.extensions === undefined ? [] : [tlv(0xa0, tlv(0x02, hex('02')))]),
    tlv(0x02, hex('11')),
    algorithm,
    parts.issuer,
    tlv(0x30, tlv(0x17, Buffer.from('200101000000Z')), tlv(0x17, Buffer.from(parts.notAfter ?? '450101000000Z'))),
    parts.subject,
    parts.publicKeyInfo ?? publicKey.export({ format: 'der', type: 'spki' }),
    ...(parts.extensions === undefined ? [] : [tlv(0xa3, tlv(0x30, ...parts.extensions))]),
  );
  const padding = pss ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {};
  const signature = sign(parts.signWith === 'sha1' ? 'sha1' : 'sha256', tbs, { key: parts.signer, ...padding });
  return tlv(0x30, tbs, algorithm, tlv(0x03, hex('00'), signature));
}
