import type { X509Certificate } from 'node:crypto';
import type { RevocationReason } from './crl.ts';
import { decimalSerial, isCrlFresh, readCrl, writeCrl } from './crl-file.ts';
import { withFolderLock } from './folder-lock.ts';
import {
  type CaFolder,
  type IssuedCertificate,
  issuedCertificates,
  nowOf,
  openCa,
  readCaCertificate,
  writeKeyStore,
} from './open-ca.ts';
import { PkiError } from './pki-error.ts';
import { subjectText } from './rfc4514.ts';

/** Serial numbers, decimal: those that are on the CRL now because of this call, and those that were there before. */
export type Revocation = { readonly added: readonly string[]; readonly already: readonly string[] };

/**
 * Puts certificates on the CRL of the folder. Safe to repeat: what is listed stays as it is. When it returns, key store and
 * CRL are on the disk.
 * @throws PkiError `invalid_serial` for a number that this CA has not given to a certificate
 */
export async function revokeSerials(
  folder: CaFolder,
  serials: readonly string[],
  reason: RevocationReason = 'unspecified',
): Promise<Revocation> {
  return withFolderLock(folder.dir, () => revokeLocked(folder, serials, reason));
}

/** Puts every certificate on the CRL that was issued under `name` and still holds. Throws `PkiError` `certificate_missing`. */
export async function revokeName(folder: CaFolder, name: string, reason?: RevocationReason): Promise<Revocation> {
  return withFolderLock(folder.dir, async () => {
    const issued = await issuedCertificates(folder);
    const own = issued.filter((one) => commonName(one) === name);
    if (own.length === 0) {
      throw new PkiError('certificate_missing', `This CA has issued no certificate for ${JSON.stringify(name)}.`);
    }
    return revokeLocked(folder, stillValid(own, nowOf(folder)), reason);
  });
}

/**
 * Puts the certificates of a machine on the CRL that stopped being trustworthy: the one that the `metadata` of its enrolment
 * names, and every other one with the same subject, which the machine may have kept. [MUST] The subject must be that of the
 * certificate: serial numbers of another CA would take somebody else's certificate away.
 * @throws PkiError `invalid_serial`, `subject_mismatch`; trying again does not help
 */
export async function revokeMachine(
  folder: CaFolder,
  machine: { readonly serial: string; readonly subject: string },
): Promise<Revocation> {
  return withFolderLock(folder.dir, async () => {
    const issued = await issuedCertificates(folder);
    const named = issued.find(({ certificate }) => decimalSerial(certificate) === machine.serial);
    const same = issued.filter(({ certificate }) => subjectText(certificate) === machine.subject);
    // A certificate whose file is gone, as the existing programs replace them, must at least have a successor.
    if (named === undefined ? same.length === 0 : !same.includes(named)) {
      throw new PkiError(
        'subject_mismatch',
        `Certificate ${machine.serial} of the CA in ${folder.dir} is not the machine's: it came from another CA.`,
      );
    }
    const serials = new Set([machine.serial, ...stillValid(same, nowOf(folder))]);
    return revokeLocked(folder, [...serials], 'keyCompromise');
  });
}

/** Makes a new CRL if the old one has lived two thirds of its life, or always with `always`. */
export async function renewCrl(folder: CaFolder, { always = false } = {}): Promise<'kept' | 'renewed'> {
  if (!always && (await isCrlFresh(folder.dir, nowOf(folder)))) return 'kept';
  await withFolderLock(folder.dir, async () => {
    const { issuer, store } = await openCa(folder, await readCaCertificate(folder));
    await writeCrl(folder.dir, issuer, store.revokedSerials, nowOf(folder));
  });
  return 'renewed';
}

async function revokeLocked(
  folder: CaFolder,
  serials: readonly string[],
  reason: RevocationReason | undefined,
): Promise<Revocation> {
  const { issuer, store } = await openCa(folder, await readCaCertificate(folder));
  for (const serial of serials) {
    const isGiven = /^[1-9]\d{0,15}$/.test(serial) && Number(serial) > 1 && Number(serial) <= store.lastSerial;
    if (isGiven || store.revokedSerials.includes(serial)) continue;
    throw new PkiError(
      'invalid_serial',
      `${JSON.stringify(serial)} is no serial number of a certificate of the CA in ${folder.dir}.`,
    );
  }
  const already = serials.filter((serial) => store.revokedSerials.includes(serial));
  const added = serials.filter((serial) => !store.revokedSerials.includes(serial));
  const revokedSerials = [...store.revokedSerials, ...added];
  // The key store first: a CRL that was lost or left behind by a crash is made from it again.
  if (added.length > 0) await writeKeyStore(folder, { ...store, revokedSerials });
  const listed = new Set((await readCrl(folder.dir))?.revoked.map(({ serial }) => serial));
  const isComplete = revokedSerials.every((serial) => listed.has(serial));
  if (!isComplete || !(await isCrlFresh(folder.dir, nowOf(folder)))) {
    await writeCrl(folder.dir, issuer, revokedSerials, nowOf(folder), reason);
  }
  return { added, already };
}

const stillValid = (certificates: readonly IssuedCertificate[], now: Date): readonly string[] =>
  certificates
    .filter(({ certificate }) => certificate.validToDate > now)
    .map(({ certificate }) => decimalSerial(certificate));

/** The common name in the subject of a certificate. */
export function commonName({ certificate }: { readonly certificate: X509Certificate }): string | undefined {
  const names: unknown = certificate.toLegacyObject().subject?.CN;
  const first: unknown = Array.isArray(names) ? names[0] : names;
  return typeof first === 'string' ? first : undefined;
}
