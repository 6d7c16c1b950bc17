/** The PCRs that firmware, boot loaders and the kernel's start extend: 0 to 15 without IMA's. */
export const BOOT_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];

/** The same as a mask, bit i for PCR i. */
export const BOOT_PCR_MASK: number = BOOT_PCRS.reduce((mask, pcr) => mask | (1 << pcr), 0);

/** The PCRs that firmware ends with a separator before it starts a boot loader. */
export const SEPARATED_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7];
