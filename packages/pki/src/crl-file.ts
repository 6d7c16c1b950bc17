import { join } from 'node:path';
import { type Issuer, issueCrl } from './issue.ts';
import { findFile, PUBLIC_FILE_MODE, replaceFile } from './safe-files.ts';
import * as x509 from './x509.ts';

const CRL_DER = 'cacrl.der';
const CRL_PEM = 'cacrl.pem';
const CRL_LIFETIME_MS = 30 * 86_400_000;

/**
 * Writes the CRL of all `revokedSerials` (decimal) as `cacrl.der` and `cacrl.pem` of `dir`, valid for 30 days. The key store
 * knows no dates: a certificate that the old CRL lists keeps its revocation date, one that is new gets `now`.
 */
export async function writeCrl(
  dir: string,
  issuer: Issuer,
  revokedSerials: readonly string[],
  now: Date,
): Promise<void> {
  const dates = await revocationDates(dir);
  const crl = await issueCrl({
    issuer,
    revoked: revokedSerials.map((serial) => ({ serial, revokedAt: dates.get(BigInt(serial)) ?? now })),
    now,
    nextUpdate: new Date(now.getTime() + CRL_LIFETIME_MS),
  });
  await replaceFile(join(dir, CRL_DER), new Uint8Array(crl.rawData), PUBLIC_FILE_MODE);
  await replaceFile(join(dir, CRL_PEM), `${x509.PemConverter.encode(crl.rawData, 'X509 CRL')}\n`, PUBLIC_FILE_MODE);
}

/** Whether the CRL of `dir` is there and still in the first two thirds of its life. */
export async function isCrlFresh(dir: string, now: Date): Promise<boolean> {
  const crl = await findCrl(dir);
  if (crl?.nextUpdate === undefined) return false;
  const from = crl.thisUpdate.getTime();
  return now.getTime() < from + ((crl.nextUpdate.getTime() - from) * 2) / 3;
}

async function revocationDates(dir: string): Promise<ReadonlyMap<bigint, Date>> {
  const crl = await findCrl(dir);
  return new Map(crl?.entries.map((entry) => [BigInt(`0x${entry.serialNumber}`), entry.revocationDate]));
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
