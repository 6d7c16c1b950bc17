import { type KeyObject, X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { type CertificateFiles, createCertificate, renewalDate } from './ca-folder.ts';
import { DEFAULT_CA_OPTIONS } from './ca-options.ts';
import { decimalSerial, readCrl, writeCrl } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import { issueCaCertificate, type Purpose } from './issue.ts';
import {
  CA_CERTIFICATE,
  type CaFolder,
  findCertificate,
  issuedCertificates,
  nowOf,
  openCa,
  readCaCertificate,
  writeKeyStore,
} from './open-ca.ts';
import { PkiError } from './pki-error.ts';
import { findPrivateKey, type KeyType } from './private-key.ts';
import { PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import { subjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

/** Names whose certificate has lived two thirds of its life and is not revoked. */
export async function dueNames(folder: CaFolder): Promise<readonly string[]> {
  const revoked = new Set((await readCrl(folder.dir))?.revoked.map(({ serial }) => serial));
  const issued = await issuedCertificates(folder);
  return issued.flatMap(({ certificate, name }) =>
    name !== undefined && !revoked.has(decimalSerial(certificate)) && nowOf(folder) >= renewalDate(certificate)
      ? [name]
      : [],
  );
}

/**
 * Makes a new key and certificate of the same kind, for the same purposes and names.
 * @throws PkiError `certificate_missing`; `wrong_password` if the private key is encrypted: who knows its password renews it
 */
export async function renewCertificate(folder: CaFolder, name: string): Promise<CertificateFiles> {
  const old = await findCertificate(join(folder.dir, `${name}-cert.crt`));
  const key = await findPrivateKey(join(folder.dir, `${name}-private.pem`));
  if (old === undefined || key === undefined) {
    throw new PkiError('certificate_missing', `${folder.dir} holds no certificate for ${name}, or not its key.`);
  }
  const parsed = new x509.X509Certificate(old.toString());
  const alternatives = parsed.getExtension(x509.SubjectAlternativeNameExtension)?.names.toJSON() ?? [];
  return createCertificate(folder, {
    name,
    purposes: purposesOf(old, parsed),
    names: subjectNames(alternatives.flatMap(({ type, value }) => (type === 'dns' || type === 'ip' ? [value] : []))),
    keyType: keyTypeOf(key),
  });
}

/**
 * Makes a new certificate for the CA's key, good for another `cert_ca_lifetime`; what the CA issued stays valid. Everybody
 * who trusts the old certificate must get the new one before the old one ends.
 */
export async function renewCaCertificate(folder: CaFolder): Promise<void> {
  await withFolderLock(folder.dir, async () => {
    // A CA that ended a moment ago can still be renewed.
    const { issuer, store } = await openCa(folder, await readCaCertificate({ ...folder, now: () => new Date(0) }));
    const { key } = issuer;
    const serial = store.lastSerial + 1;
    const options = folder.options ?? DEFAULT_CA_OPTIONS;
    const { subjectName } = new x509.X509Certificate(Uint8Array.from(issuer.certificate.raw));
    const issued = await issueCaCertificate(key, options, nowOf(folder), serial, subjectName);
    const certificate = new X509Certificate(Buffer.from(issued.rawData));
    await writeKeyStore(folder, { ...store, lastSerial: serial });
    await replaceFile(join(folder.dir, CA_CERTIFICATE), certificate.toString(), PUBLIC_FILE_MODE);
    await writeCrl(folder.dir, { certificate, key }, store.revokedSerials, nowOf(folder));
  });
}

const ANY: readonly Purpose[] = ['serverAuth', 'clientAuth'];

function purposesOf(certificate: X509Certificate, parsed: x509.X509Certificate): readonly Purpose[] {
  const usages: readonly string[] | undefined = certificate.keyUsage;
  if (usages) return ANY.filter((purpose) => usages.includes(x509.ExtendedKeyUsage[purpose]));
  // [compat] A certificate of the existing programs names no usage at all and is good for every one.
  return parsed.getExtension(x509.KeyUsagesExtension) ? [] : ANY;
}

function keyTypeOf(key: KeyObject): KeyType {
  if (key.asymmetricKeyType === 'rsa' || key.asymmetricKeyType === 'ed25519') return key.asymmetricKeyType;
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'p384' : 'p256';
}
