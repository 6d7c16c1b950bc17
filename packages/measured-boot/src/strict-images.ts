import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import { actionDigest, type StrictBoot } from './strict-boot.ts';
import type { StrictKernel } from './strict-kernel.ts';

const IMAGE_PCR = 4;

/** What firmware says around the boot options that it tries. */
const ACTIONS = ['Calling EFI Application from Boot Option', 'Returning from EFI Application from Boot Option'];

/**
 * PCR 4 against one chain of images: each image once, or several times in a row, in order, with nothing between that is not
 * listed. An image that was started before the separator has to be known by its digest.
 */
export function judgeImages(boot: StrictBoot, { images }: StrictKernel): readonly BootViolation[] {
  const { bank } = boot;
  const actions = new Set(ACTIONS.map((text) => actionDigest(bank, text)));
  const chain = images.map((image) => (image === 'signed' ? image : (image.get(bank) ?? `a digest of ${bank}`)));
  const violations: BootViolation[] = [];
  const events = boot.events(IMAGE_PCR);
  const lastPlaces = new Map(events.map(({ event }) => [event.digest, event.index]));
  let next = 0;
  let last: string | undefined;
  for (const { event, isListed, isAfterSeparator } of events) {
    const { digest, type } = event;
    if (type !== 'EV_EFI_BOOT_SERVICES_APPLICATION') {
      if (isListed || (type === 'EV_EFI_ACTION' && actions.has(digest))) continue;
      violations.push(
        violationBy(event, 'event_unexpected', { expected: ACTIONS.join(', '), found: digestWords(event) }),
      );
      continue;
    }
    const wanted = chain[next];
    const isNext = digest === wanted;
    if (!isNext && (digest === last || isListed)) continue;
    if (isNext || (wanted === 'signed' && isAfterSeparator)) {
      next++;
      last = digest;
      continue;
    }
    const reason = wanted === 'signed' ? 'image_before_separator' : 'image_unexpected';
    violations.push(violationBy(event, reason, { expected: wanted ?? 'no further image', found: digestWords(event) }));
    // It took the place of the image that was wanted, unless that one is still to come.
    const isStillToCome = wanted === 'signed' || (lastPlaces.get(wanted ?? '') ?? 0) > event.index;
    if (!isStillToCome) next++;
  }
  for (const expected of chain.slice(next)) violations.push({ reason: 'image_missing', pcr: IMAGE_PCR, expected });
  return violations;
}
