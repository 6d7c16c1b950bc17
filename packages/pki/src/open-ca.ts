import { X509Certificate } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from '@keylime/core/coded-error';
import type { CaOptions } from './ca-options.ts';
import type { Issuer } from './issue.ts';
import { decryptKeyStore, encryptKeyStore, type KeyStore } from './key-store.ts';
import { PkiError } from './pki-error.ts';
import { parsePrivateKey } from './private-key.ts';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from './safe-files.ts';

/** The CA's folder and what is needed to use it; layout of the existing services (spec 07 sections 6.2 and 7). */
export type CaFolder = {
  readonly dir: string;
  /** Password of `private.yml`. [compat] The services' one is the text `default` when `[ca] password` is not set. */
  readonly password?: string;
  readonly options?: CaOptions;
  readonly now?: () => Date;
};

/** [compat] The literal password of the existing services' automatic CA. */
export const DEFAULT_CA_PASSWORD = 'default';

export const CA_CERTIFICATE = 'cacert.crt';
export const CA_PUBLIC_KEY = 'ca-public.pem';
export const KEY_STORE = 'private.yml';
/** Every certificate that this CA issued, by its serial number: `<name>-cert.crt` has the last one of a name alone. */
export const ISSUED = 'issued';

export const nowOf = (folder: CaFolder): Date => folder.now?.() ?? new Date();

/** Whether `dir` holds a CA, usable or not. */
export const hasCa = async (dir: string): Promise<boolean> => (await findFile(join(dir, CA_CERTIFICATE))) !== undefined;

/** The CA's certificate with the key and the rest of its key store; throws `PkiError` if they do not belong together. */
export async function openCa(
  folder: CaFolder,
  certificate: X509Certificate,
): Promise<{ readonly issuer: Issuer; readonly store: KeyStore }> {
  const path = join(folder.dir, KEY_STORE);
  const store = await findKeyStore(folder);
  if (store === undefined) {
    throw new PkiError('ca_incomplete', `${path} is missing: without the CA's key no certificate can be issued.`);
  }
  const key = parsePrivateKey(store.caKeyPem, `the CA key in ${path}`);
  if (!certificate.checkPrivateKey(key)) {
    throw new PkiError('key_mismatch', `${path} holds another key than the one of ${CA_CERTIFICATE}.`);
  }
  return { issuer: { certificate, key }, store };
}

/** Decrypting is slow on purpose: what was read or written for a folder is kept as long as the caller keeps `folder`. */
const decrypted = new WeakMap<CaFolder, { readonly text: string; readonly store: KeyStore }>();

/** The decrypted key store of the folder, or `undefined` if there is none. */
export async function findKeyStore(folder: CaFolder): Promise<KeyStore | undefined> {
  const text = (await findFile(join(folder.dir, KEY_STORE)))?.toString('utf8');
  if (text === undefined) return undefined;
  const known = decrypted.get(folder);
  if (known?.text === text) return known.store;
  const store = await decryptKeyStore(text, folder.password || DEFAULT_CA_PASSWORD);
  decrypted.set(folder, { text, store });
  return store;
}

export async function writeKeyStore(folder: CaFolder, store: KeyStore): Promise<void> {
  const text = await encryptKeyStore(store, folder.password || DEFAULT_CA_PASSWORD);
  await replaceFile(join(folder.dir, KEY_STORE), text, PRIVATE_FILE_MODE);
  decrypted.set(folder, { text, store });
}

/** Throws `PkiError` `ca_incomplete`, `malformed_certificate` or `ca_expired`. */
export async function readCaCertificate(folder: CaFolder): Promise<X509Certificate> {
  const path = join(folder.dir, CA_CERTIFICATE);
  const certificate = await findCertificate(path);
  if (certificate === undefined) {
    throw new PkiError('ca_incomplete', `${path} is missing: there is no CA in this folder.`);
  }
  const { validToDate: notAfter } = certificate;
  if (notAfter > nowOf(folder)) return certificate;
  throw new PkiError('ca_expired', `${path} expired at ${notAfter.toISOString()}: a new CA is needed.`);
}

/** The certificate in the file at `path`, or `undefined` if there is none; throws `PkiError` `malformed_certificate`. */
export async function findCertificate(path: string): Promise<X509Certificate | undefined> {
  const pem = await findFile(path);
  if (pem === undefined) return undefined;
  try {
    return new X509Certificate(pem);
  } catch (cause) {
    throw new PkiError('malformed_certificate', `${path} is not a certificate in PEM.`, { cause });
  }
}

/** A certificate that the CA of a folder issued. */
export type IssuedCertificate = {
  readonly certificate: X509Certificate;
  /** Name of its files, if they still are this certificate's; a later one of the same name took them otherwise. */
  readonly name: string | undefined;
};

/**
 * Every certificate of the folder that its CA issued, by serial number. Of a folder that the existing programs made, only
 * those that were not replaced by later ones of the same name are there.
 */
export async function issuedCertificates(folder: CaFolder): Promise<readonly IssuedCertificate[]> {
  const ca = await readCaCertificate(folder);
  const found = new Map<bigint, IssuedCertificate>();
  const add = async (path: string, name: string | undefined) => {
    const certificate = await findCertificate(path);
    if (!certificate?.checkIssued(ca) || !certificate.verify(ca.publicKey)) return;
    const serial = BigInt(`0x${certificate.serialNumber}`);
    if (name !== undefined || !found.has(serial)) found.set(serial, { certificate, name });
  };
  for (const file of await filesOf(join(folder.dir, ISSUED))) {
    if (file.endsWith('.crt')) await add(join(folder.dir, ISSUED, file), undefined);
  }
  for (const file of await filesOf(folder.dir)) {
    if (file.endsWith('-cert.crt')) await add(join(folder.dir, file), file.slice(0, -'-cert.crt'.length));
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, one]) => one);
}

async function filesOf(dir: string): Promise<readonly string[]> {
  try {
    return await readdir(dir);
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return [];
    throw error;
  }
}
