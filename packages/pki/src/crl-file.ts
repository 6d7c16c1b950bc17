import type { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { DecodeError } from '@keylime/core/codec';
import { type Crl, crlPem, decodeCrl, REVOCATION_REASONS, type RevocationReason } from './crl.ts';
import type { Issuer } from './issue.ts';
import { findFile, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';

export const CRL_DER = 'cacrl.der';
export const CRL_PEM = 'cacrl.pem';
const CRL_LIFETIME_MS = 30 * 86_400_000;

/**
 * Writes the CRL of all `revokedSerials` (decimal) as `cacrl.der` and `cacrl.pem` of `dir`, valid for 30 days. The key store
 * knows neither dates nor reasons: a certificate that the old CRL lists keeps them, one that is new gets `now` and `reason`.
 */
export async function writeCrl(
  dir: string,
  issuer: Issuer,
  revokedSerials: readonly string[],
  now: Date,
  reason: RevocationReason = 'unspecified',
): Promise<void> {
  const old = await readCrl(dir);
  const known = new Map(old?.revoked.map((entry) => [entry.serial, entry]));
  const { issueCrl } = await import('./issue.ts'); // late: most callers find a CRL that is fresh
  const crl = await issueCrl({
    issuer,
    revoked: revokedSerials.map(
      (serial) => known.get(serial) ?? { serial, revokedAt: now, reason: REVOCATION_REASONS[reason] },
    ),
    number: nextNumber(old, now),
    now,
    nextUpdate: new Date(now.getTime() + CRL_LIFETIME_MS),
  });
  const der = Buffer.from(crl.rawData);
  await replaceFile(join(dir, CRL_DER), der, PUBLIC_FILE_MODE);
  await replaceFile(join(dir, CRL_PEM), crlPem(der), PUBLIC_FILE_MODE);
}

/** Whether the CRL of `dir` is there, in both forms, and still in the first two thirds of its life. */
export async function isCrlFresh(dir: string, now: Date): Promise<boolean> {
  const crl = await readCrl(dir);
  if (crl?.nextUpdate === undefined || (await findFile(join(dir, CRL_PEM))) === undefined) return false;
  const from = crl.thisUpdate.getTime();
  return now.getTime() < from + ((crl.nextUpdate.getTime() - from) * 2) / 3;
}

/** What the CRL of `dir` says; `undefined` if there is none or it is damaged. Its signature is not checked. */
export async function readCrl(dir: string): Promise<Crl | undefined> {
  const der = await findFile(join(dir, CRL_DER));
  if (der === undefined) return undefined;
  try {
    return decodeCrl(der);
  } catch (error) {
    if (error instanceof DecodeError) return undefined; // it can always be made anew from the key store
    throw error;
  }
}

/** Serial number of a certificate, decimal, as the key store has it. */
export const decimalSerial = (certificate: X509Certificate): string =>
  BigInt(`0x${certificate.serialNumber}`).toString();

/** Seconds since 1970, or one more than the last number where that is not yet passed: a clock may be set back. */
function nextNumber(old: Crl | undefined, now: Date): bigint {
  const seconds = BigInt(Math.floor(now.getTime() / 1000));
  const next = (old?.number ?? -1n) + 1n;
  return next > seconds ? next : seconds;
}
