import type { HashAlgorithm } from '@keylime/core/digest';
import { PcrExtend, PcrRead, PcrReset } from './commands.ts';
import { bitmapMask, maskPcrs, pcrSelection } from './pcr-selection.ts';
import { password, type Tpm } from './tpm.ts';

/** A PCR bank is not in use in this TPM. */
export class PcrBankError extends Error {
  readonly code = 'pcr_bank_inactive';
  readonly bank: HashAlgorithm;
  constructor(bank: HashAlgorithm) {
    const advice = 'activate it (tpm2_pcrallocate, then reboot), or choose another tpm_hash_alg';
    super(`PCR bank ${bank} is not active in this TPM: ${advice}`);
    this.name = 'PcrBankError';
    this.bank = bank;
  }
}

/**
 * Values of the PCRs of `mask`, read eight or fewer to a command; where they must belong together, within `exclusive`
 * and with a quote over them.
 * @throws PcrBankError if the bank does not have them.
 */
export async function readPcrs(tpm: Tpm, bank: HashAlgorithm, mask: number): Promise<ReadonlyMap<number, Buffer>> {
  const values = new Map<number, Buffer>();
  for (let missing = mask; missing !== 0; ) {
    const parameters = { pcrSelectionIn: [pcrSelection(bank, missing)] };
    const { pcrSelectionOut, pcrValues: read } = await tpm.run(PcrRead, { parameters });
    const got = maskPcrs(bitmapMask(pcrSelectionOut[0]?.pcrSelect ?? Buffer.alloc(0)) & missing);
    got.forEach((pcr, i) => {
      const value = read[i];
      if (value === undefined) return;
      values.set(pcr, value);
      missing = (missing & ~(1 << pcr)) >>> 0;
    });
    if (read.length === 0 || got.length === 0) throw new PcrBankError(bank);
  }
  return values;
}

/** Resets PCR 16 or 23 in all banks. */
export async function resetPcr(tpm: Tpm, pcr: number): Promise<void> {
  await tpm.run(PcrReset, { handles: { pcrHandle: pcr }, authorizations: [password()], parameters: {} });
}

/** Extends one PCR in each of the banks given, by a digest of the bank's size. */
export async function extendPcr(
  tpm: Tpm,
  pcr: number,
  digests: readonly { readonly bank: HashAlgorithm; readonly digest: Buffer }[],
): Promise<void> {
  const parameters = { digests: digests.map(({ bank, digest: value }) => ({ type: bank, digest: value })) };
  await tpm.run(PcrExtend, { handles: { pcrHandle: pcr }, authorizations: [password()], parameters });
}
