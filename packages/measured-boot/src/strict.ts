import type { VerifiedEventLog } from '@keylime/event-log/verify';
import { closest } from './alternatives.ts';
import type { BootViolation, MeasuredBootPolicy } from './policy.ts';
import { sortEvents } from './strict-boot.ts';
import { judgeConfiguration, judgeExit, judgeFirmware } from './strict-firmware.ts';
import { judgeImages } from './strict-images.ts';
import { judgeLoader } from './strict-loader.ts';
import { judgeMokLists } from './strict-mok.ts';
import { decodeStrictReference, STRICT_PCRS, type StrictReference } from './strict-reference.ts';
import { judgeSecureBoot } from './strict-secure-boot.ts';

/**
 * Accepts a boot of which every event is explained by the reference state, by its digest or by data that its digest covers,
 * and in which nothing is missing. See docs/measured-boot.md.
 */
export const strict: MeasuredBootPolicy<StrictReference> = {
  name: 'strict',
  decodeReference: decodeStrictReference,
  pcrs: STRICT_PCRS,
  evaluate: judgeStrictly,
};

function judgeStrictly(log: VerifiedEventLog, reference: StrictReference): readonly BootViolation[] {
  const { bank } = log;
  if (bank === 'sha1' || !reference.banks.has(bank)) {
    const expected = [...reference.banks].filter((name) => name !== 'sha1').join(', ');
    return [{ reason: 'bank_not_in_reference', expected, found: bank }];
  }
  const { boot, violations } = sortEvents(log, reference);
  return [
    ...violations,
    ...closest(reference.firmware.map((firmware) => judgeFirmware(boot, firmware))),
    ...judgeConfiguration(boot, reference),
    ...judgeExit(boot, reference),
    ...judgeSecureBoot(boot, reference),
    ...judgeMokLists(boot, reference),
    ...closest(
      reference.kernels.map((kernel) => [...judgeImages(boot, kernel), ...judgeLoader(boot, kernel, reference)]),
    ),
  ];
}
