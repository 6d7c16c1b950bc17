import { join } from 'node:path';
import { storedZip } from '@keylime/payload/archive';
import { CRL_DER, CRL_PEM, decimalSerial } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import { isCertificateName, type KeyStore } from './key-store.ts';
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
 * Collects the packages of the certificates called `names` (spec 07 section 6.3), in this order. The private keys are those
 * of the key store, encrypted only if the certificate was made with a password.
 * @throws PkiError `certificate_missing`, `key_mismatch`
 */
export async function certificatePackages<const Names extends readonly string[]>(
  folder: CaFolder,
  names: Names,
): Promise<{ readonly [K in keyof Names]: CertificatePackage }> {
  for (const name of names) {
    if (isCertificateName(name)) continue;
    throw new PkiError('invalid_name', `${JSON.stringify(name)} cannot name a certificate.`);
  }
  return withFolderLock(folder.dir, async () => {
    const { store } = await openCa(folder, await readCaCertificate(folder));
    const packages = await Promise.all(names.map((name) => packageOf(folder, store, name)));
    return packages as unknown as { readonly [K in keyof Names]: CertificatePackage };
  });
}

async function packageOf({ dir }: CaFolder, store: KeyStore, name: string): Promise<CertificatePackage> {
  const certificatePath = join(dir, `${name}-cert.crt`);
  const certificate = await findCertificate(certificatePath);
  const privateKeyPem = store.keys.get(name);
  if (certificate === undefined || privateKeyPem === undefined) {
    throw new PkiError('certificate_missing', `${dir} holds no certificate for ${name}, or not its key.`);
  }
  const isEncrypted = privateKeyPem.includes('ENCRYPTED');
  if (!isEncrypted && !certificate.checkPrivateKey(parsePrivateKey(privateKeyPem, `the key of ${name}`))) {
    throw new PkiError('key_mismatch', `The key store holds another key than the one of ${certificatePath}.`);
  }
  const read = async (file: string): Promise<Buffer> => {
    const content = await findFile(join(dir, file));
    if (content !== undefined) return content;
    throw new PkiError('ca_incomplete', `${join(dir, file)} is missing.`);
  };
  const files = [
    { name: `${name}-public.pem`, content: await read(`${name}-public.pem`) },
    { name: `${name}-cert.crt`, content: await read(`${name}-cert.crt`) },
    { name: `${name}-private.pem`, content: Buffer.from(privateKeyPem) },
    { name: CA_CERTIFICATE, content: await read(CA_CERTIFICATE) },
    { name: CRL_DER, content: await read(CRL_DER) },
    { name: CRL_PEM, content: await read(CRL_PEM) },
  ];
  return {
    files,
    certificatePem: certificate.toString(),
    privateKeyPem,
    serial: Number(decimalSerial(certificate)),
    subject: subjectText(certificate),
  };
}

/** Writes `<name>-pkg.zip` (stored, 0600: it holds the private key) into the folder; the path of it. */
export async function writeCertificatePackage(folder: CaFolder, name: string): Promise<string> {
  const files = (await certificatePackages(folder, [name])).flatMap((one) => one.files);
  const path = join(folder.dir, `${name}-pkg.zip`);
  await replaceFile(path, await storedZip(files, nowOf(folder)), PRIVATE_FILE_MODE);
  return path;
}
