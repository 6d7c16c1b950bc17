import { type Decoded, list, paddedBytes, slots, struct, u8, u16le, u32le } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';
import { HASH_IDS } from './algorithms.ts';
import { bitmapMask, maskPcrs, pcrSelection } from './pcr-selection.ts';

/**
 * PCR values beside a quote: the memory image of a TPML_PCR_SELECTION and of `n` TPML_DIGESTs as a little-endian C
 * program holds them (tpm2-tools' "serialized" PCR output), so arrays have their full size whatever is used of them.
 * Unused places are ignored when read and zero when written. Nothing here is signed.
 */
export const PcrValues = struct({
  /** TPML_PCR_SELECTION: 16 places of 8 bytes. `hash` is a TPM_ALG_ID. */
  selections: slots(u32le, struct({ hash: u16le, pcrSelect: paddedBytes(u8, 4, 5) }), 16, 8),
  /** TPML_DIGESTs: each a count and 8 places of 66 bytes. */
  digests: list(u32le, slots(u32le, paddedBytes(u16le, 64, 64), 8, 66), 32),
});
export type PcrValues = Decoded<typeof PcrValues>;

/** The blob of one bank: `values` are the PCRs of `mask` in ascending order, eight to a list. @throws RangeError */
export function pcrValues(bank: HashAlgorithm, mask: number, values: readonly Buffer[]): PcrValues {
  const { pcrSelect } = pcrSelection(bank, mask);
  const wanted = maskPcrs(mask).length;
  if (values.length !== wanted) throw new RangeError(`${wanted} PCR values wanted, ${values.length} given`);
  const digests = Array.from({ length: Math.ceil(values.length / 8) }, (_, i) => values.slice(8 * i, 8 * i + 8));
  return { selections: [{ hash: HASH_IDS[bank], pcrSelect }], digests };
}

/** Bank id and mask of a blob with one selection; `undefined` if there are more or none. */
export function onlySelection({ selections }: PcrValues): { readonly hash: number; readonly mask: number } | undefined {
  const [only, ...rest] = selections;
  return only === undefined || rest.length > 0 ? undefined : { hash: only.hash, mask: bitmapMask(only.pcrSelect) };
}
