import { good } from '@keylime/core/parsed';
import { BOOT_PCRS } from './boot-pcrs.ts';
import type { MeasuredBootPolicy } from './policy.ts';

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
