import { type KeyObject, X509Certificate } from 'node:crypto';
import {
  randomSerialHex,
  signingAlgorithm,
  signingKey,
  subjectAlternativeNames,
  validity,
  x509PublicKey,
} from './issue.ts';
import { PkiError } from './pki-error.ts';
import { findPrivateKey, generateP256Key, privateKeyPem } from './private-key.ts';
import { createFile, findFile, PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import { subjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

const LIFETIME_DAYS = 365;
/** It begins a day early: a verifier whose clock is behind the machine's takes the certificate at once. */
const EARLIER_MS = 86_400_000;
/** So long before its end a certificate of the agent's own is renewed. */
export const RENEW_BEFORE_MS = 30 * 86_400_000;

export type AgentCertificate = {
  /** PEM that the TLS server sends; more than one certificate where somebody else issued it. */
  readonly certificatePem: string;
  /** PEM of the agent's own certificate alone: what it registers as `mtls_cert`, and what verifier and tenant pin. */
  readonly leafPem: string;
  readonly key: KeyObject;
  readonly notAfter: Date;
  /** `renewed`: peers still pin the old certificate until the agent is registered again. */
  readonly provision: 'kept' | 'created' | 'renewed';
};

/**
 * The certificate and key with which a pull agent serves TLS (spec 07 section 8.4): files that are there are used; otherwise
 * a P-256 key (PKCS#8 PEM, 0600, encrypted if `password` is given) and a self-signed certificate for it are made: CN the
 * agent id, 365 days, serverAuth, for `localhost`, the loopback addresses and `contactIp` (an address or a host name).
 * A self-signed certificate is renewed for the same key from 30 days before its end; its signature is not checked, because
 * the existing agents' own certificates have a wrong one. A certificate that somebody else issued is never replaced: throws
 * `PkiError` `certificate_expired` once it is too old, `key_mismatch` if key and certificate do not belong together.
 */
export async function ensureAgentCertificate(options: {
  readonly certificatePath: string;
  readonly keyPath: string;
  readonly agentId: string;
  readonly contactIp?: string | undefined;
  readonly password?: string | undefined;
  readonly now?: Date | undefined;
}): Promise<AgentCertificate> {
  const { certificatePath, keyPath, password } = options;
  const now = options.now ?? new Date();
  const oldPem = await findFile(certificatePath);
  const old = oldPem && readCertificate(oldPem, certificatePath);
  const oldKey = await findPrivateKey(keyPath, password);
  if (old && oldKey) {
    if (!old.checkPrivateKey(oldKey)) {
      throw new PkiError(
        'key_mismatch',
        `${keyPath} is not the key of ${certificatePath}: delete the certificate to have a new one made for that key.`,
      );
    }
    if (old.validToDate.getTime() - RENEW_BEFORE_MS > now.getTime()) {
      return kept(old, oldPem, oldKey);
    }
  }
  if (old && old.issuer !== old.subject) return keepForeign(old, oldPem, oldKey, options, now);
  const key = oldKey ?? (await createKey(keyPath, password));
  const certificate = await selfSign(key, options.agentId, options.contactIp, now);
  const certificatePem = `${certificate.toString('pem')}\n`;
  await replaceFile(certificatePath, certificatePem, PUBLIC_FILE_MODE);
  const provision = old ? 'renewed' : 'created';
  return { certificatePem, leafPem: certificatePem, key, notAfter: certificate.notAfter, provision };
}

const kept = (certificate: X509Certificate, pem: Buffer, key: KeyObject): AgentCertificate => ({
  certificatePem: pem.toString(),
  leafPem: certificate.toString(),
  key,
  notAfter: certificate.validToDate,
  provision: 'kept',
});

function keepForeign(
  certificate: X509Certificate,
  pem: Buffer,
  key: KeyObject | undefined,
  paths: { readonly certificatePath: string; readonly keyPath: string },
  now: Date,
): AgentCertificate {
  const { certificatePath, keyPath } = paths;
  if (key === undefined) throw new PkiError('key_mismatch', `${keyPath}, the key of ${certificatePath}, is missing.`);
  if (certificate.validToDate <= now) {
    const end = certificate.validToDate.toISOString();
    throw new PkiError('certificate_expired', `${certificatePath} expired at ${end}: ask its issuer for a new one.`);
  }
  return kept(certificate, pem, key);
}

async function createKey(path: string, password: string | undefined): Promise<KeyObject> {
  const key = await generateP256Key();
  if (await createFile(path, privateKeyPem(key, password), PRIVATE_FILE_MODE)) return key;
  const other = await findPrivateKey(path, password);
  if (other === undefined) throw new PkiError('malformed_key', `${path} disappeared while it was being made.`);
  return other;
}

async function selfSign(
  key: KeyObject,
  agentId: string,
  contactIp: string | undefined,
  now: Date,
): Promise<x509.X509Certificate> {
  const signing = await signingKey(key);
  const publicKey = await x509PublicKey(key);
  const name = new x509.Name([{ CN: [{ utf8String: agentId }] }]);
  return x509.X509CertificateGenerator.create({
    serialNumber: randomSerialHex(),
    subject: name,
    issuer: name,
    ...validity(now, LIFETIME_DAYS, EARLIER_MS),
    publicKey,
    signingKey: signing,
    signingAlgorithm: signingAlgorithm(key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      subjectAlternativeNames(subjectNames(['localhost', '127.0.0.1', '::1', contactIp ?? ''])),
      await x509.SubjectKeyIdentifierExtension.create(publicKey),
    ],
  });
}

function readCertificate(pem: Buffer, path: string): X509Certificate {
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new PkiError('malformed_certificate', `${path} is not a certificate in PEM.`, { cause });
  }
}
