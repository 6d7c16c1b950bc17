import type { X509Certificate } from 'node:crypto';
import path from 'node:path';
import { renewalDate } from '@keylime/pki/ca-folder';
import { decimalSerial, readCrl } from '@keylime/pki/crl-file';
import { CA_CERTIFICATE, type CaFolder, findCertificate, issuedCertificates, nowOf } from '@keylime/pki/open-ca';
import { PkiError } from '@keylime/pki/pki-error';
import { dueNames } from '@keylime/pki/renewal';
import { commonName } from '@keylime/pki/revocation';

export type State = 'valid' | 'due' | 'expired' | 'revoked' | 'replaced';

/** A certificate in words of `list`. `due`: two thirds of its life are over. `replaced`: a later one took its files. */
export type Row = {
  readonly serial: string;
  readonly name: string;
  readonly state: State;
  /** RFC 3339. */
  readonly notAfter: string;
  readonly usage: string;
};

/** The certificates of the folder by serial number; those that ended or were replaced only with `all`. */
export async function certificateRows(folder: CaFolder, all: boolean): Promise<readonly Row[]> {
  const revoked = new Set((await readCrl(folder.dir))?.revoked.map(({ serial }) => serial));
  const now = nowOf(folder);
  const rows = (await issuedCertificates(folder)).map((one): Row => {
    const { certificate } = one;
    const serial = decimalSerial(certificate);
    return {
      serial,
      name: one.name ?? commonName(one) ?? '',
      state: revoked.has(serial) ? 'revoked' : stateOf(certificate, one.name !== undefined, now),
      notAfter: certificate.validToDate.toISOString(),
      usage: usageOf(certificate),
    };
  });
  // A serial number on the CRL whose certificate is not here any more is still worth a line.
  const known = new Set(rows.map(({ serial }) => serial));
  const lost = [...revoked].filter((serial) => !known.has(serial));
  const others = lost.map((serial): Row => ({ serial, name: '', state: 'revoked', notAfter: '', usage: '' }));
  return [...rows, ...others].filter(({ state }) => all || (state !== 'expired' && state !== 'replaced'));
}

function stateOf(certificate: X509Certificate, hasFiles: boolean, now: Date): State {
  if (certificate.validToDate <= now) return 'expired';
  if (!hasFiles) return 'replaced';
  return now >= renewalDate(certificate) ? 'due' : 'valid';
}

const USAGE_NAMES: { readonly [oid: string]: string } = {
  '1.3.6.1.5.5.7.3.1': 'server',
  '1.3.6.1.5.5.7.3.2': 'client',
};

function usageOf(certificate: X509Certificate): string {
  const usages: readonly string[] | undefined = certificate.keyUsage;
  return usages === undefined ? 'any' : usages.map((oid) => USAGE_NAMES[oid] ?? oid).join('+');
}

export function rowsText(rows: readonly Row[]): string {
  const cells = [['SERIAL', 'STATE', 'NOT AFTER', 'USAGE', 'NAME'], ...rows.map(cellsOf)];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  return `${cells.map(line).join('\n')}\n`;
}

const cellsOf = ({ serial, state, notAfter, usage, name }: Row): readonly string[] => [
  serial,
  state,
  notAfter.slice(0, 10),
  usage,
  // A name of a certificate that somebody else made must not change the terminal.
  name.replace(/\p{Cc}/gu, '?'),
];

export type CaReport = {
  readonly folder: string;
  readonly ca: { readonly notAfter: string };
  readonly crl: { readonly thisUpdate: string; readonly nextUpdate: string; readonly revoked: number } | null;
  readonly certificates: number;
  /** What has to be done, in words; empty if all is well. */
  readonly problems: readonly string[];
};

/** How long the CA, its CRL and its certificates still hold. Works also when they do not any more. */
export async function caReport(folder: CaFolder): Promise<CaReport> {
  const { dir } = folder;
  const now = nowOf(folder);
  const ca = await findCertificate(path.join(dir, CA_CERTIFICATE));
  if (ca === undefined) throw new PkiError('ca_incomplete', `There is no CA in ${dir}: keylime_ca init makes one.`);
  const crl = await readCrl(dir);
  const rows = ca.validToDate > now ? await certificateRows(folder, false) : [];
  const problems: string[] = [];
  if (ca.validToDate <= now) problems.push('the certificate of the CA has expired: renew --ca');
  else if (now >= renewalDate(ca)) problems.push('the certificate of the CA ends soon: renew --ca');
  if (crl === undefined) problems.push('there is no CRL: renew');
  else if (crl.nextUpdate === undefined || crl.nextUpdate <= now) problems.push('the CRL has ended: renew');
  const due = ca.validToDate > now ? await dueNames(folder) : [];
  problems.push(...due.map((name) => `the certificate of ${name} has ended or ends soon: renew`));
  return {
    folder: dir,
    ca: { notAfter: ca.validToDate.toISOString() },
    crl: crl
      ? {
          thisUpdate: crl.thisUpdate.toISOString(),
          nextUpdate: crl.nextUpdate?.toISOString() ?? '',
          revoked: crl.revoked.length,
        }
      : null,
    certificates: rows.filter(({ state }) => state !== 'revoked').length,
    problems,
  };
}

export function reportText({ folder, ca, crl, certificates, problems }: CaReport): string {
  return `${[
    `CA            ${folder}, until ${ca.notAfter}`,
    crl ? `CRL           ${crl.revoked} revoked, until ${crl.nextUpdate}` : 'CRL           none',
    `certificates  ${certificates}`,
    ...problems.map((problem) => `problem       ${problem}`),
  ].join('\n')}\n`;
}
