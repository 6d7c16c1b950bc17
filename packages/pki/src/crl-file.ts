import type { X509Certificate } from 'node:crypto';
import { join } from 'node:path';
import { type Issuer, issueCrl, type Revoked } from './issue.ts';
import { findFile, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import * as x509 from './x509.ts';

export const CRL_DER = 'cacrl.der';
export const CRL_PEM = 'cacrl.pem';
const CRL_NUMBER = '2.5.29.20';
const CRL_LIFETIME_MS = 30 * 86_400_000;

/** Why a certificate was revoked (RFC 5280 section 5.3.1), for those reasons that a person can give. */
export const REVOCATION_REASONS = {
  unspecified: x509.X509CrlReason.unspecified,
  keyCompromise: x509.X509CrlReason.keyCompromise,
  affiliationChanged: x509.X509CrlReason.affiliationChanged,
  superseded: x509.X509CrlReason.superseded,
  cessationOfOperation: x509.X509CrlReason.cessationOfOperation,
  privilegeWithdrawn: x509.X509CrlReason.privilegeWithdrawn,
} as const;
export type RevocationReason = keyof typeof REVOCATION_REASONS;

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
  const old = await findCrl(dir);
  const known = new Map(old ? listed(old).map((entry) => [entry.serial, entry]) : []);
  const crl = await issueCrl({
    issuer,
    revoked: revokedSerials.map(
      (serial) => known.get(serial) ?? { serial, revokedAt: now, reason: REVOCATION_REASONS[reason] },
    ),
    number: nextNumber(old, now),
    now,
    nextUpdate: new Date(now.getTime() + CRL_LIFETIME_MS),
  });
  await replaceFile(join(dir, CRL_DER), new Uint8Array(crl.rawData), PUBLIC_FILE_MODE);
  await replaceFile(join(dir, CRL_PEM), `${x509.PemConverter.encode(crl.rawData, 'X509 CRL')}\n`, PUBLIC_FILE_MODE);
}

/** Whether the CRL of `dir` is there, in both forms, and still in the first two thirds of its life. */
export async function isCrlFresh(dir: string, now: Date): Promise<boolean> {
  const crl = await findCrl(dir);
  if (crl?.nextUpdate === undefined || (await findFile(join(dir, CRL_PEM))) === undefined) return false;
  const from = crl.thisUpdate.getTime();
  return now.getTime() < from + ((crl.nextUpdate.getTime() - from) * 2) / 3;
}

/** What the CRL of `dir` says; `undefined` if there is none or it is damaged. Its signature is not checked. */
export async function readCrl(dir: string): Promise<
  | {
      readonly revoked: readonly Revoked[];
      readonly thisUpdate: Date;
      readonly nextUpdate: Date | undefined;
      readonly der: Buffer;
    }
  | undefined
> {
  const crl = await findCrl(dir);
  if (crl === undefined) return undefined;
  const { thisUpdate, nextUpdate } = crl;
  return { revoked: listed(crl), thisUpdate, nextUpdate, der: Buffer.from(crl.rawData) };
}

/** Serial number of a certificate, decimal, as the key store has it. */
export const decimalSerial = (certificate: X509Certificate): string =>
  BigInt(`0x${certificate.serialNumber}`).toString();

const listed = (crl: x509.X509Crl): readonly Revoked[] =>
  crl.entries.map((entry) => ({
    serial: BigInt(`0x${entry.serialNumber}`).toString(),
    revokedAt: entry.revocationDate,
    reason: entry.reason,
  }));

/** Seconds since 1970, or one more than the last number where that is not yet passed: a clock may be set back. */
function nextNumber(old: x509.X509Crl | undefined, now: Date): bigint {
  const seconds = BigInt(Math.floor(now.getTime() / 1000));
  const value = old?.extensions.find(({ type }) => type === CRL_NUMBER)?.value;
  const der = value ? Buffer.from(value) : Buffer.alloc(0);
  // DER INTEGER; one that is longer than 20 bytes is none of RFC 5280.
  if (der.length < 3 || der[0] !== 2 || der[1] !== der.length - 2 || der.length > 22) return seconds;
  const next = BigInt(`0x${der.subarray(2).toString('hex')}`) + 1n;
  return next > seconds ? next : seconds;
}

async function findCrl(dir: string): Promise<x509.X509Crl | undefined> {
  const der = await findFile(join(dir, CRL_DER));
  if (der === undefined) return undefined;
  try {
    return new x509.X509Crl(Uint8Array.from(der));
  } catch {
    return undefined; // it can always be made anew from the key store
  }
}
