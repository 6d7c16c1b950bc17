import { join } from 'node:path';
import { storedZip } from '@keylime/payload/archive';
import { CRL_DER, CRL_PEM, decimalSerial } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import { isCertificateName } from './key-store.ts';
import { CA_CERTIFICATE, type CaFolder, findCertificate, nowOf, openCa, readCaCertificate } from './open-ca.ts';
import { PkiError } from './pki-error.ts';
import { parsePrivateKey } from './private-key.ts';
import { subjectText } from './rfc4514.ts';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from './safe-files.ts';

/** A certificate with its private key and all that its holder needs to know of the CA, in the order of the archive. */
export type CertificatePackage = {
  readonly files: readonly { readonly name: string; readonly content: Buffer }[];
  readonly certificatePem: string;
  /** PKCS#8 PEM. */
  readonly privateKeyPem: string;
  readonly serial: number;
  /** RFC 4514. */
  readonly subject: string;
};

/**
 * Collects the package of the certificate called `name` (spec 07 section 6.3). The private key is the one of the key store,
 * encrypted only if the certificate was made with a password.
 * @throws PkiError `certificate_missing`, `key_mismatch`
 */
export async function certificatePackage(folder: CaFolder, name: string): Promise<CertificatePackage> {
  if (!isCertificateName(name))
    throw new PkiError('invalid_name', `${JSON.stringify(name)} cannot name a certificate.`);
  return withFolderLock(folder.dir, async () => {
    const certificatePath = join(folder.dir, `${name}-cert.crt`);
    const certificate = await findCertificate(certificatePath);
    const { store } = await openCa(folder, await readCaCertificate(folder));
    const privateKeyPem = store.keys.get(name);
    if (certificate === undefined || privateKeyPem === undefined) {
      throw new PkiError('certificate_missing', `${folder.dir} holds no certificate for ${name}, or not its key.`);
    }
    const isEncrypted = privateKeyPem.includes('ENCRYPTED');
    if (!isEncrypted && !certificate.checkPrivateKey(parsePrivateKey(privateKeyPem, `the key of ${name}`))) {
      throw new PkiError('key_mismatch', `The key store holds another key than the one of ${certificatePath}.`);
    }
    const read = async (file: string): Promise<Buffer> => {
      const content = await findFile(join(folder.dir, file));
      if (content !== undefined) return content;
      throw new PkiError('ca_incomplete', `${join(folder.dir, file)} is missing.`);
    };
    const files = [
      { name: `${name}-public.pem`, content: await read(`${name}-public.pem`) },
      { name: `${name}-cert.crt`, content: await read(`${name}-cert.crt`) },
      { name: `${name}-private.pem`, content: Buffer.from(privateKeyPem) },
      { name: CA_CERTIFICATE, content: await read(CA_CERTIFICATE) },
      { name: CRL_DER, content: await read(CRL_DER) },
      { name: CRL_PEM, content: await read(CRL_PEM) },
    ];
    const serial = Number(decimalSerial(certificate));
    const certificatePem = certificate.toString();
    return { files, certificatePem, privateKeyPem, serial, subject: subjectText(certificatePem) };
  });
}

/** Writes `<name>-pkg.zip` (stored, 0600: it holds the private key) into the folder; the path of it. */
export async function writeCertificatePackage(folder: CaFolder, name: string): Promise<string> {
  const { files } = await certificatePackage(folder, name);
  const path = join(folder.dir, `${name}-pkg.zip`);
  await replaceFile(path, await storedZip(files, nowOf(folder)), PRIVATE_FILE_MODE);
  return path;
}
