import { DecodeError } from '@keylime/core/codec';
import { DER, type DerElement, oidText, readElement, readElements } from '@keylime/core/der';
import type { Certificate } from './certificate.ts';

/** Object identifiers of RFC 5280 section 4.2 and of the TCG OID registry. */
export const OID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  issuerAltName: '2.5.29.18',
  basicConstraints: '2.5.29.19',
  crlDistributionPoints: '2.5.29.31',
  certificatePolicies: '2.5.29.32',
  authorityKeyIdentifier: '2.5.29.35',
  extendedKeyUsage: '2.5.29.37',
  hardwareModuleName: '1.3.6.1.5.5.7.8.4',
  tpmHardwareType: '2.23.133.1.2',
} as const;

/** BasicConstraints (RFC 5280 4.2.1.9); `undefined` if the certificate has none. @throws DecodeError */
export function basicConstraints({ extensions }: Certificate): { ca: boolean; pathLength: number } | undefined {
  const extension = extensions.get(OID.basicConstraints);
  if (extension === undefined) return undefined;
  const fields = readElements(readElement(extension.value, 'basicConstraints').content, 'basicConstraints');
  const ca = fields.some(({ tag, content }) => tag === DER.boolean && content[0] !== 0);
  const length = fields.find(({ tag }) => tag === DER.integer)?.content;
  return {
    ca,
    pathLength: length === undefined ? Number.POSITIVE_INFINITY : Number.parseInt(length.toString('hex') || '0', 16),
  };
}

/** Whether `keyUsage` allows to sign certificates; also true without the extension. @throws DecodeError */
export function maySignCertificates({ extensions }: Certificate): boolean {
  const extension = extensions.get(OID.keyUsage);
  if (extension === undefined) return true;
  const bits = readElement(extension.value, 'keyUsage').content; // first octet: number of unused bits
  return ((bits[1] ?? 0) & 0x04) !== 0; // keyCertSign is bit 5 from the left (RFC 5280 4.2.1.3)
}

const OTHER_NAME = 0xa0;
const EXPLICIT = 0xa0;

function otherNames({ extensions }: Certificate): readonly { oid: string; value: DerElement }[] {
  const extension = extensions.get(OID.subjectAltName);
  if (extension === undefined) return [];
  return readElements(readElement(extension.value, 'subjectAltName').content, 'subjectAltName')
    .filter(({ tag }) => tag === OTHER_NAME)
    .flatMap(({ content }) => {
      const [type, value] = readElements(content, 'otherName');
      if (type?.tag !== DER.oid || value?.tag !== EXPLICIT) return [];
      return [{ oid: oidText(type.content), value: readElement(value.content, 'otherName.value') }];
    });
}

/**
 * HardwareModuleName (RFC 4108 section 5) in the subjectAltName: type as dotted object identifier, serial number as
 * bytes. Device identities of a TPM carry type 2.23.133.1.2 (TCG "TPM 2.0 Keys for Device Identity and Attestation"
 * 1.00, section 8.1). `undefined` if there is none or it is malformed.
 */
export function hardwareModuleName(certificate: Certificate): { type: string; serialNumber: Buffer } | undefined {
  try {
    const name = otherNames(certificate).find(({ oid }) => oid === OID.hardwareModuleName);
    if (name === undefined) return undefined;
    const [type, serialNumber] = readElements(name.value.content, 'hardwareModuleName');
    if (type?.tag !== DER.oid || serialNumber?.tag !== DER.octetString) return undefined;
    return { type: oidText(type.content), serialNumber: serialNumber.content };
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** Whether `certificate` names a TPM as the hardware module that holds its key (IAK and IDevID). */
export const namesTpmHardware = (certificate: Certificate): boolean =>
  hardwareModuleName(certificate)?.type === OID.tpmHardwareType;
