import { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { isCrlFresh, writeCrl } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import {
  type CaOptions,
  DEFAULT_CA_OPTIONS,
  type Issuer,
  issueCaCertificate,
  issueCertificate,
  type Purpose,
} from './issue.ts';
import { decryptKeyStore, encryptKeyStore, isCertificateName, type KeyStore } from './key-store.ts';
import { PkiError } from './pki-error.ts';
import { findPrivateKey, generateRsaKey, parsePrivateKey, privateKeyPem, publicKeyPem } from './private-key.ts';
import { findFile, makePrivateFolder, PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import { type SubjectNames, subjectNames } from './subject-names.ts';
import * as x509 from './x509.ts';

/** The CA's folder and what is needed to use it; layout of the existing services (spec 07 sections 6.2 and 7). */
export type CaFolder = {
  readonly dir: string;
  /** Password of `private.yml`. [compat] The services' one is the text `default` when `[ca] password` is not set. */
  readonly password?: string;
  readonly options?: CaOptions;
  readonly now?: () => Date;
};

/** What was done about a certificate. */
export type Provision = 'kept' | 'created' | 'renewed';

export type CaFiles = {
  readonly certificatePath: string;
  readonly certificatePem: string;
  readonly provision: Provision;
};

export type CertificateFiles = {
  readonly certificatePath: string;
  readonly privateKeyPath: string;
  readonly notAfter: Date;
  readonly provision: Provision;
};

/** [compat] The literal password of the existing services' automatic CA. */
export const DEFAULT_CA_PASSWORD = 'default';

const CA_CERTIFICATE = 'cacert.crt';
const KEY_STORE = 'private.yml';

/**
 * Makes the CA of `dir` if there is none (certificate, key store, empty CRL), and a new CRL when the old one runs out.
 * A CA that is there is used as it is, also one made by the existing services. Processes that start at once make one CA.
 * Throws `PkiError` if the folder holds a CA that cannot be used.
 */
export async function ensureCa(folder: CaFolder): Promise<CaFiles> {
  await makePrivateFolder(folder.dir);
  return withFolderLock(folder.dir, async () => {
    const found = await findFile(join(folder.dir, CA_CERTIFICATE));
    const provision: Provision = found === undefined ? 'created' : 'kept';
    if (found === undefined) await createCa(folder);
    const certificate = await readCaCertificate(folder);
    await keepCrlFresh(folder, certificate);
    return {
      certificatePath: join(folder.dir, CA_CERTIFICATE),
      certificatePem: `${certificate.toString('pem')}\n`,
      provision,
    };
  });
}

/**
 * The automatic server certificate: CN `server`, extended key usage serverAuth only, for `names`; `server-cert.crt`,
 * `server-private.pem` (0600, encrypted if `keyPassword` is set) and `server-public.pem`. The CA must exist (`ensureCa`).
 * Files that are there are kept until two thirds of the certificate's life are over, unless they do not fit together, were
 * issued by another CA, or lack one of `names`.
 */
export const ensureServerCertificate = (
  folder: CaFolder & { readonly names: SubjectNames; readonly keyPassword?: string },
): Promise<CertificateFiles> => ensureCertificate(folder, 'server', 'serverAuth', folder.names, folder.keyPassword);

/** The automatic administrator's certificate: CN `client`, clientAuth only; `client-cert.crt` and so on, as for the server. */
export const ensureClientCertificate = (
  folder: CaFolder & { readonly keyPassword?: string },
): Promise<CertificateFiles> =>
  ensureCertificate(folder, 'client', 'clientAuth', subjectNames(['client']), folder.keyPassword);

/** A certificate called `name` in the CA's folder, good for `purpose` alone; kept or renewed as `ensureServerCertificate`. */
export async function ensureCertificate(
  folder: CaFolder,
  name: string,
  purpose: Purpose,
  names: SubjectNames,
  keyPassword?: string,
): Promise<CertificateFiles> {
  if (!isCertificateName(name)) throw new PkiError('invalid_name', `'${name}' cannot name a certificate's files.`);
  return withFolderLock(folder.dir, async () => {
    const ca = await readCaCertificate(folder);
    const certificatePath = join(folder.dir, `${name}-cert.crt`);
    const privateKeyPath = join(folder.dir, `${name}-private.pem`);
    const old = await findCertificate(certificatePath);
    const oldKey = await findPrivateKey(privateKeyPath, keyPassword);
    if (old && oldKey && old.checkPrivateKey(oldKey) && isUsable(old, ca, names, nowOf(folder))) {
      return { certificatePath, privateKeyPath, notAfter: old.validToDate, provision: 'kept' };
    }
    const certificate = await issueInto(folder, ca, { name, purpose, names, keyPassword });
    const provision = old && oldKey ? 'renewed' : 'created';
    return { certificatePath, privateKeyPath, notAfter: certificate.notAfter, provision };
  });
}

const nowOf = (folder: CaFolder): Date => folder.now?.() ?? new Date();

async function createCa(folder: CaFolder): Promise<void> {
  const options = folder.options ?? DEFAULT_CA_OPTIONS;
  const key = await generateRsaKey(options.bits);
  const certificate = await issueCaCertificate(key, options, nowOf(folder));
  await writeKeyStore(folder, {
    caKeyPem: privateKeyPem(key),
    lastSerial: 1,
    revokedSerials: [],
    keys: new Map(),
  });
  await replaceFile(join(folder.dir, 'ca-public.pem'), publicKeyPem(key), PUBLIC_FILE_MODE);
  await writeCrl(folder.dir, { certificate, key }, [], nowOf(folder));
  // Last, because its presence says that the CA is complete.
  await replaceFile(join(folder.dir, CA_CERTIFICATE), `${certificate.toString('pem')}\n`, PUBLIC_FILE_MODE);
}

async function issueInto(
  folder: CaFolder,
  ca: x509.X509Certificate,
  request: {
    readonly name: string;
    readonly purpose: Purpose;
    readonly names: SubjectNames;
    readonly keyPassword: string | undefined;
  },
): Promise<x509.X509Certificate> {
  const { name, purpose, names } = request;
  const options = folder.options ?? DEFAULT_CA_OPTIONS;
  const { issuer, store } = await openCa(folder, ca);
  const serial = store.lastSerial + 1;
  const key = await generateRsaKey(options.bits);
  const now = nowOf(folder);
  const certificate = await issueCertificate({ issuer, key, commonName: name, serial, purpose, names, options, now });
  const keyPem = privateKeyPem(key, request.keyPassword);
  // The serial number is spent before anybody sees the certificate; a crash after any step is mended at the next start.
  await writeKeyStore(folder, { ...store, lastSerial: serial, keys: new Map(store.keys).set(name, keyPem) });
  await replaceFile(join(folder.dir, `${name}-private.pem`), keyPem, PRIVATE_FILE_MODE);
  await replaceFile(join(folder.dir, `${name}-public.pem`), publicKeyPem(key), PUBLIC_FILE_MODE);
  await replaceFile(join(folder.dir, `${name}-cert.crt`), `${certificate.toString('pem')}\n`, PUBLIC_FILE_MODE);
  return certificate;
}

async function keepCrlFresh(folder: CaFolder, ca: x509.X509Certificate): Promise<void> {
  const now = nowOf(folder);
  // A CA whose key is kept elsewhere publishes its CRL itself.
  const hasKey = (await findFile(join(folder.dir, KEY_STORE))) !== undefined;
  if (!hasKey || (await isCrlFresh(folder.dir, now))) return;
  const { issuer, store } = await openCa(folder, ca);
  await writeCrl(folder.dir, issuer, store.revokedSerials, now);
}

/** The CA's certificate with the key and the rest of its key store; throws if they do not belong together. */
async function openCa(
  folder: CaFolder,
  certificate: x509.X509Certificate,
): Promise<{ readonly issuer: Issuer; readonly store: KeyStore }> {
  const path = join(folder.dir, KEY_STORE);
  const text = await findFile(path);
  if (text === undefined) {
    throw new PkiError('ca_incomplete', `${path} is missing: without the CA's key no certificate can be issued.`);
  }
  const store = await decryptKeyStore(text.toString('utf8'), folder.password || DEFAULT_CA_PASSWORD);
  const key = parsePrivateKey(store.caKeyPem, `the CA key in ${path}`);
  if (key.asymmetricKeyType !== 'rsa') {
    throw new PkiError('wrong_key_type', `The CA key in ${path} is of type ${key.asymmetricKeyType}, not RSA.`);
  }
  if (!new X509Certificate(Buffer.from(certificate.rawData)).checkPrivateKey(key)) {
    throw new PkiError('key_mismatch', `${path} holds another key than the one of ${CA_CERTIFICATE}.`);
  }
  return { issuer: { certificate, key }, store };
}

async function readCaCertificate(folder: CaFolder): Promise<x509.X509Certificate> {
  const path = join(folder.dir, CA_CERTIFICATE);
  const pem = await findFile(path);
  if (pem === undefined) throw new PkiError('ca_incomplete', `${path} is missing: there is no CA in this folder.`);
  let certificate: x509.X509Certificate;
  try {
    certificate = new x509.X509Certificate(pem.toString('latin1'));
  } catch (cause) {
    throw new PkiError('malformed_certificate', `${path} is not a certificate in PEM.`, { cause });
  }
  if (certificate.notAfter <= nowOf(folder)) {
    throw new PkiError('ca_expired', `${path} expired at ${certificate.notAfter.toISOString()}: a new CA is needed.`);
  }
  return certificate;
}

async function findCertificate(path: string): Promise<X509Certificate | undefined> {
  const pem = await findFile(path);
  if (pem === undefined) return undefined;
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new PkiError('malformed_certificate', `${path} is not a certificate in PEM.`, { cause });
  }
}

function isUsable(certificate: X509Certificate, ca: x509.X509Certificate, names: SubjectNames, now: Date): boolean {
  const issuer = new X509Certificate(Buffer.from(ca.rawData));
  if (!certificate.checkIssued(issuer) || !certificate.verify(issuer.publicKey)) return false;
  const from = certificate.validFromDate.getTime();
  const renewAt = from + ((certificate.validToDate.getTime() - from) * 2) / 3;
  if (now.getTime() >= renewAt) return false;
  return (
    names.dns.every((name) => certificate.checkHost(name, { subject: 'never' }) !== undefined) &&
    names.ip.every((address) => certificate.checkIP(address) !== undefined)
  );
}

async function writeKeyStore(folder: CaFolder, store: KeyStore): Promise<void> {
  const text = await encryptKeyStore(store, folder.password || DEFAULT_CA_PASSWORD);
  await replaceFile(join(folder.dir, KEY_STORE), text, PRIVATE_FILE_MODE);
}
