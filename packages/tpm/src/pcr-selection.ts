import { countedBytes, type Decoded, list, struct, u8, u32 } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';
import { hashId } from './algorithms.ts';

/** PCR 16, the debug PCR: resettable, and so used to bind a public key to a quote. */
export const DATA_PCR = 16;

/** A bitmap of PCRs: PCR p is bit `p & 7` of byte `p >> 3`. */
export const pcrBitmap = countedBytes(u8, 4);

/** TPMS_PCR_SELECTION (TPM 2.0 Part 2 r1.59, 10.6.2). */
export const TpmsPcrSelection = struct({ hash: hashId, pcrSelect: pcrBitmap });
export type TpmsPcrSelection = Decoded<typeof TpmsPcrSelection>;

/** TPML_PCR_SELECTION (10.9.7). */
export const TpmlPcrSelection = list(u32, TpmsPcrSelection, 16);

/** Bit i of the answer is PCR i. */
export const bitmapMask = (bitmap: Uint8Array): number =>
  bitmap.reduce((mask, byte, i) => (mask | (byte << (8 * i))) >>> 0, 0);

/** The PCRs of `mask` in `bank`, as a bitmap of 3 bytes. @throws RangeError for a PCR over 23. */
export function pcrSelection(bank: HashAlgorithm, mask: number): TpmsPcrSelection {
  if (!Number.isInteger(mask) || mask < 0 || mask > 0xffffff) {
    throw new RangeError(`PCR mask 0x${mask.toString(16)} is not within 0 and 0xffffff`);
  }
  return { hash: bank, pcrSelect: Buffer.of(mask & 0xff, (mask >> 8) & 0xff, mask >> 16) };
}

/** PCR numbers of `mask`, ascending. */
export function maskPcrs(mask: number): readonly number[] {
  const pcrs: number[] = [];
  for (let pcr = 0; mask >>> pcr !== 0 && pcr < 32; pcr++) if (((mask >>> pcr) & 1) === 1) pcrs.push(pcr);
  return pcrs;
}

/** `mask` with PCR 16. */
export const withDataPcr = (mask: number): number => (mask | (1 << DATA_PCR)) >>> 0;
