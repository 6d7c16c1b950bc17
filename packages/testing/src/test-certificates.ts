import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { randomSerialHex, signingKey, subjectAlternativeNames, x509PublicKey } from '@keylime/pki/issue';
import { generateP256Key, privateKeyPem } from '@keylime/pki/private-key';
import { subjectNames } from '@keylime/pki/subject-names';
import * as x509 from '@keylime/pki/x509';

/** A certificate with its key, both in PEM. */
export type TestIdentity = { readonly certPem: string; readonly keyPem: string };

export type TestLeaf = {
  /** Common names in the subject; without any the subject has an organization only. */
  readonly commonNames?: readonly string[];
  /** `none` leaves the extension out, as the existing services' CA does. */
  readonly purpose?: 'serverAuth' | 'clientAuth' | 'none';
  readonly names?: readonly string[];
  /** Basic constraints say that it is a CA. */
  readonly isCa?: boolean;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
};

export type TestCa = { readonly certPem: string; readonly issue: (leaf: TestLeaf) => Promise<TestIdentity> };

const DAY_MS = 86_400_000;
const ECDSA = { name: 'ECDSA', hash: 'SHA-256' };

/** A CA on P-256 that issues whatever a test wants, also what no CA should. */
export async function testCa(name = 'Test CA'): Promise<TestCa> {
  const caKey = await generateP256Key();
  const caName = new x509.Name([{ CN: [{ utf8String: name }] }]);
  const publicKey = await x509PublicKey(caKey);
  const ca = await x509.X509CertificateGenerator.create({
    serialNumber: randomSerialHex(),
    subject: caName,
    issuer: caName,
    ...period(),
    publicKey,
    signingKey: await signingKey(caKey),
    signingAlgorithm: ECDSA,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
  return {
    certPem: pemOf(ca),
    issue: async (leaf) => {
      const key = await generateP256Key();
      const { purpose = 'none', commonNames = [], names = [] } = leaf;
      const certificate = await x509.X509CertificateGenerator.create({
        serialNumber: randomSerialHex(),
        subject: new x509.Name([
          { O: [{ utf8String: 'Keylime' }] },
          ...commonNames.map((value) => ({ CN: [{ utf8String: value }] })),
        ]),
        issuer: ca.subjectName,
        ...period(leaf),
        publicKey: await x509PublicKey(key),
        signingKey: await signingKey(caKey),
        signingAlgorithm: ECDSA,
        extensions: [
          ...(leaf.isCa ? [new x509.BasicConstraintsExtension(true, undefined, true)] : []),
          ...(purpose === 'none' ? [] : [new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage[purpose]])]),
          ...(names.length === 0 ? [] : [subjectAlternativeNames(subjectNames(names))]),
        ],
      });
      return { certPem: pemOf(certificate), keyPem: privateKeyPem(key) };
    },
  };
}

/** A self-signed certificate as an agent registers it. */
export async function testAgentIdentity(
  agentId: string,
  leaf: TestLeaf = {},
  /** Of an identity that is renewed. */
  keyPem?: string,
): Promise<TestIdentity> {
  const key = keyPem === undefined ? await generateP256Key() : createPrivateKey(keyPem);
  return { certPem: pemOf(await selfSigned(key, agentId, leaf, randomSerialHex())), keyPem: privateKeyPem(key) };
}

/**
 * A certificate as the existing Rust agents make it: serial number 0, and alternative names that were added after signing,
 * so that its own signature does not verify.
 */
export async function testStockAgentIdentity(agentId: string): Promise<TestIdentity> {
  const key = await generateP256Key();
  const signed = await selfSigned(key, agentId, {}, '01');
  const name = new x509.Name([{ CN: [{ utf8String: agentId }] }]);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: '01',
    subject: name,
    issuer: name,
    notBefore: signed.notBefore,
    notAfter: signed.notAfter,
    publicKey: await x509PublicKey(key),
    signature: signed.signature,
    signingAlgorithm: ECDSA,
    extensions: [subjectAlternativeNames(subjectNames(['localhost', 'localhost.domain', '127.0.0.1', '::1']))],
  });
  const der = Buffer.from(certificate.rawData);
  // The library makes up a serial number for 0. Version 3 and a serial number of one byte, as DER:
  const serial = der.indexOf(Buffer.from('a003020102020101', 'hex'));
  der.writeUInt8(0, serial + 7);
  return { certPem: new X509Certificate(der).toString(), keyPem: privateKeyPem(key) };
}

async function selfSigned(
  key: KeyObject,
  agentId: string,
  leaf: TestLeaf,
  serialNumber: string,
): Promise<x509.X509Certificate> {
  const name = new x509.Name([{ CN: [{ utf8String: agentId }] }]);
  return x509.X509CertificateGenerator.create({
    serialNumber,
    subject: name,
    issuer: name,
    ...period(leaf),
    publicKey: await x509PublicKey(key),
    signingKey: await signingKey(key),
    signingAlgorithm: ECDSA,
  });
}

const period = (leaf: TestLeaf = {}) => ({
  notBefore: leaf.notBefore ?? new Date(Date.now() - DAY_MS),
  notAfter: leaf.notAfter ?? new Date(Date.now() + DAY_MS),
});

const pemOf = (certificate: x509.X509Certificate): string => `${certificate.toString('pem')}\n`;
