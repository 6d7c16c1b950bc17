import { type KeyObject, X509Certificate } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type CaOptions, DEFAULT_CA_OPTIONS } from './ca-options.ts';
import { decimalSerial, isCrlFresh, readCrl, writeCrl } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import type { Purpose } from './issue.ts';
import { isCertificateName } from './key-store.ts';
import {
  CA_CERTIFICATE,
  CA_PUBLIC_KEY,
  type CaFolder,
  findCertificate,
  hasCa,
  ISSUED,
  KEY_STORE,
  nowOf,
  openCa,
  readCaCertificate,
  writeKeyStore,
} from './open-ca.ts';
import { PkiError } from './pki-error.ts';
import { findPrivateKey, generateKeyOf, type KeyType, privateKeyPem, publicKeyPem } from './private-key.ts';
import { findFile, makePrivateFolder, PRIVATE_FILE_MODE, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import { type SubjectNames, subjectNames } from './subject-names.ts';

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

/** A certificate that is wanted. */
export type CertificateRequest = {
  /** Its common name, and the beginning of its files' names. */
  readonly name: string;
  readonly purposes: readonly Purpose[];
  readonly names: SubjectNames;
  /** Encrypts the private key. */
  readonly keyPassword?: string | undefined;
  /** Another one than the CA's options say. */
  readonly keyType?: KeyType | undefined;
  /** Of `foreseeCertificate`. */
  readonly foreseen?: ForeseenKey | undefined;
};

/** A private key that is being made, for a certificate that may be wanted. */
export type ForeseenKey = { readonly key: Promise<KeyObject> };

/**
 * Makes the CA of `dir` if there is none (certificate, key store, empty CRL), and a new CRL when the old one runs out.
 * A CA that is there is used as it is, also one made by the existing services. Processes that start at once make one CA.
 * Throws `PkiError` if the folder holds a CA that cannot be used.
 */
export async function ensureCa(folder: CaFolder): Promise<CaFiles> {
  await makePrivateFolder(folder.dir);
  return withFolderLock(folder.dir, async () => {
    const provision: Provision = (await hasCa(folder.dir)) ? 'kept' : 'created';
    if (provision === 'created') await createCa(folder);
    const certificate = await readCaCertificate(folder);
    await keepCrlFresh(folder, certificate);
    return {
      certificatePath: join(folder.dir, CA_CERTIFICATE),
      certificatePem: certificate.toString(),
      provision,
    };
  });
}

/**
 * Makes a new CA in `dir`. Throws `PkiError` `ca_exists` if there is one, or a key store: with `replace` that CA, all its
 * keys and certificates are deleted first, as `keylime_ca -c init` of the existing programs always does.
 */
export async function initCa(folder: CaFolder, { replace = false } = {}): Promise<void> {
  await makePrivateFolder(folder.dir);
  await withFolderLock(folder.dir, async () => {
    const isTaken = (await hasCa(folder.dir)) || (await findFile(join(folder.dir, KEY_STORE))) !== undefined;
    if (isTaken && !replace) throw new PkiError('ca_exists', `${folder.dir} holds a CA already.`);
    if (isTaken) await deleteCa(folder.dir);
    await createCa(folder);
  });
}

/**
 * The automatic server certificate: CN `server`, extended key usage serverAuth only, for `names`; `server-cert.crt`,
 * `server-private.pem` (0600, encrypted if `keyPassword` is set) and `server-public.pem`. The CA must exist (`ensureCa`).
 * Files that are there are kept until two thirds of the certificate's life are over, unless they do not fit together, were
 * issued by another CA, are revoked, or lack one of `names`.
 */
export const ensureServerCertificate = (
  folder: CaFolder & { readonly names: SubjectNames; readonly keyPassword?: string },
): Promise<CertificateFiles> =>
  ensureCertificate(folder, {
    name: 'server',
    purposes: ['serverAuth'],
    names: folder.names,
    keyPassword: folder.keyPassword,
  });

/** The automatic administrator's certificate: CN `client`, clientAuth only; `client-cert.crt` and so on, as for the server. */
export const ensureClientCertificate = (
  folder: CaFolder & { readonly keyPassword?: string },
): Promise<CertificateFiles> =>
  ensureCertificate(folder, {
    name: 'client',
    purposes: ['clientAuth'],
    names: subjectNames(['client']),
    keyPassword: folder.keyPassword,
  });

/** A certificate in the CA's folder, good for its purposes alone; kept or renewed as `ensureServerCertificate`. */
export async function ensureCertificate(folder: CaFolder, request: CertificateRequest): Promise<CertificateFiles> {
  requireName(request.name);
  return withFolderLock(folder.dir, async () => {
    const ca = await readCaCertificate(folder);
    const paths = pathsOf(folder, request.name);
    const old = await findCertificate(paths.certificatePath);
    const oldKey = await findPrivateKey(paths.privateKeyPath, request.keyPassword);
    if (old && oldKey && old.checkPrivateKey(oldKey) && isUsable(old, ca, request.names, nowOf(folder))) {
      const crl = await readCrl(folder.dir);
      const isRevoked = crl?.revoked.some(({ serial }) => serial === decimalSerial(old)) ?? false;
      if (!isRevoked) return { ...paths, notAfter: old.validToDate, provision: 'kept' };
    }
    const { notAfter } = await issueInto(folder, ca, request);
    return { ...paths, notAfter, provision: old && oldKey ? 'renewed' : 'created' };
  });
}

/**
 * Begins in the background what takes longest about a new certificate, its private key and the X.509 library, while it is
 * not yet decided that there will be one; `undefined` if there is one called `name`.
 */
export async function foreseeCertificate(folder: CaFolder, name: string): Promise<ForeseenKey | undefined> {
  requireName(name);
  if ((await findFile(pathsOf(folder, name).certificatePath)) !== undefined) return undefined;
  const { keyType, bits } = optionsOf(folder);
  const key = generateKeyOf(keyType, bits);
  // Who asks for the certificate sees what goes wrong.
  void Promise.allSettled([key, loadIssue()]);
  return { key };
}

/** A new certificate in the CA's folder; one of the same name that is there stays valid, but loses its files. */
export async function createCertificate(folder: CaFolder, request: CertificateRequest): Promise<CertificateFiles> {
  requireName(request.name);
  return withFolderLock(folder.dir, async () => {
    const paths = pathsOf(folder, request.name);
    const old = await findFile(paths.certificatePath);
    const { notAfter } = await issueInto(folder, await readCaCertificate(folder), request);
    return { ...paths, notAfter, provision: old ? 'renewed' : 'created' };
  });
}

function requireName(name: string): void {
  if (isCertificateName(name)) return;
  throw new PkiError(
    'invalid_name',
    `${JSON.stringify(name)} cannot name a certificate's files: use up to 100 letters, digits and _ . -`,
  );
}

const pathsOf = (folder: CaFolder, name: string) => ({
  certificatePath: join(folder.dir, `${name}-cert.crt`),
  privateKeyPath: join(folder.dir, `${name}-private.pem`),
});

/** Loads the X.509 library, which takes longer than the rest of a program that finds its certificates in place. */
const loadIssue = () => import('./issue.ts');

const optionsOf = (folder: CaFolder): CaOptions => folder.options ?? DEFAULT_CA_OPTIONS;

async function createCa(folder: CaFolder): Promise<void> {
  const options = optionsOf(folder);
  const key = await generateKeyOf(options.keyType, options.bits);
  const { issueCaCertificate } = await loadIssue();
  const issued = await issueCaCertificate(key, options, nowOf(folder));
  const certificate = new X509Certificate(Buffer.from(issued.rawData));
  await writeKeyStore(folder, {
    caKeyPem: privateKeyPem(key),
    lastSerial: 1,
    revokedSerials: [],
    keys: new Map(),
  });
  await replaceFile(join(folder.dir, CA_PUBLIC_KEY), publicKeyPem(key), PUBLIC_FILE_MODE);
  await writeCrl(folder.dir, { certificate, key }, [], nowOf(folder));
  // Last, because its presence says that the CA is complete.
  await replaceFile(join(folder.dir, CA_CERTIFICATE), certificate.toString(), PUBLIC_FILE_MODE);
}

/** The certificate goes first, whose absence says that there is no CA. */
async function deleteCa(dir: string): Promise<void> {
  await rm(join(dir, CA_CERTIFICATE), { force: true });
  await rm(join(dir, ISSUED), { recursive: true, force: true });
  for (const file of await readdir(dir)) {
    if (/\.(pem|crt|zip|der)$/.test(file) || file === KEY_STORE) await rm(join(dir, file), { force: true });
  }
}

async function issueInto(
  folder: CaFolder,
  ca: X509Certificate,
  { name, purposes, names, keyPassword, keyType, foreseen }: CertificateRequest,
): Promise<{ readonly notAfter: Date }> {
  const options = optionsOf(folder);
  const [{ issueCertificate }, { issuer, store }, key] = await Promise.all([
    loadIssue(),
    openCa(folder, ca),
    foreseen?.key ?? generateKeyOf(keyType ?? options.keyType, options.bits),
  ]);
  const serial = store.lastSerial + 1;
  const now = nowOf(folder);
  const keyPem = privateKeyPem(key, keyPassword);
  // The serial number is spent before anybody sees the certificate; a crash after any step is mended at the next start.
  const [certificate] = await Promise.all([
    issueCertificate({ issuer, key, commonName: name, serial, purposes, names, options, now }),
    writeKeyStore(folder, { ...store, lastSerial: serial, keys: new Map(store.keys).set(name, keyPem) }),
  ]);
  const pem = `${certificate.toString('pem')}\n`;
  await makePrivateFolder(join(folder.dir, ISSUED));
  await replaceFile(join(folder.dir, ISSUED, `${serial}.crt`), pem, PUBLIC_FILE_MODE);
  await replaceFile(join(folder.dir, `${name}-private.pem`), keyPem, PRIVATE_FILE_MODE);
  await replaceFile(join(folder.dir, `${name}-public.pem`), publicKeyPem(key), PUBLIC_FILE_MODE);
  await replaceFile(join(folder.dir, `${name}-cert.crt`), pem, PUBLIC_FILE_MODE);
  return certificate;
}

async function keepCrlFresh(folder: CaFolder, ca: X509Certificate): Promise<void> {
  const now = nowOf(folder);
  // A CA whose key is kept elsewhere publishes its CRL itself.
  const hasKey = (await findFile(join(folder.dir, KEY_STORE))) !== undefined;
  if (!hasKey || (await isCrlFresh(folder.dir, now))) return;
  const { issuer, store } = await openCa(folder, ca);
  await writeCrl(folder.dir, issuer, store.revokedSerials, now);
}

function isUsable(certificate: X509Certificate, ca: X509Certificate, names: SubjectNames, now: Date): boolean {
  if (!certificate.checkIssued(ca) || !certificate.verify(ca.publicKey)) return false;
  if (now >= renewalDate(certificate)) return false;
  return (
    names.dns.every((name) => certificate.checkHost(name, { subject: 'never' }) !== undefined) &&
    names.ip.every((address) => certificate.checkIP(address) !== undefined)
  );
}

/** When two thirds of a certificate's life are over, which is when it is renewed. */
export function renewalDate(certificate: X509Certificate): Date {
  const from = certificate.validFromDate.getTime();
  return new Date(from + ((certificate.validToDate.getTime() - from) * 2) / 3);
}
