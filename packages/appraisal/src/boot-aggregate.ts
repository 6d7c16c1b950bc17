import { digest, type HashAlgorithm } from '@keylime/core/digest';

/** The name of the first entry of every measurement list: a hash over the PCRs of the boot. */
export const BOOT_AGGREGATE = 'boot_aggregate';

/**
 * The boot aggregates that values of one bank give, lower-case hex: over PCRs 0 to 7 and 0 to 9, as far as they are there.
 * Source: Linux security/integrity/ima/ima_crypto.c `ima_calc_boot_aggregate_tfm`.
 */
export const bootAggregatesOf = (bank: HashAlgorithm, pcrs: ReadonlyMap<number, Uint8Array>): readonly string[] =>
  [8, 10].flatMap((count) => {
    const values = Array.from({ length: count }, (_, pcr) => pcrs.get(pcr));
    return values.every((value) => value !== undefined) ? [digest(bank, ...values).toString('hex')] : [];
  });
