import { good } from '@keylime/core/parsed';
import type { MeasuredBootPolicy } from './policy.ts';

/** PCRs 0 to 9 and 11 to 15: all that firmware, boot loaders and the kernel's start extend. */
const BOOT_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15];

/** Accepts every boot whose log leads to the quoted PCRs, all of them. Any reference state will do. */
export const acceptAll: MeasuredBootPolicy = {
  name: 'accept-all',
  decodeReference: good,
  pcrs: BOOT_PCRS,
  evaluate: () => [],
};

/** Accepts no boot. */
export const rejectAll: MeasuredBootPolicy = {
  name: 'reject-all',
  decodeReference: good,
  pcrs: BOOT_PCRS,
  evaluate: () => [{ reason: 'every_boot_is_refused' }],
};
