import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import { inBank } from './reference-values.ts';
import type { StrictBoot, StrictEvent } from './strict-boot.ts';
import { findCommandLines, judgeCommandLines } from './strict-command-line.ts';
import { judgeFiles } from './strict-files.ts';
import { LISTED } from './strict-firmware.ts';
import { LOADER_PCRS, type StrictKernel } from './strict-kernel.ts';
import type { StrictReference } from './strict-reference.ts';

const FILE_PCR = 9;
const SECTION_PCR = 11;

/** The PCRs of boot loaders against one kernel: its command line, its files, what it has to have, and nothing else. */
export function judgeLoader(
  boot: StrictBoot,
  kernel: StrictKernel,
  reference: StrictReference,
): readonly BootViolation[] {
  const { bank } = boot;
  const demanded = new Map(Array.from(kernel.digests, ([pcr, list]) => [pcr, inBank(list, bank)]));
  const isKnown = ({ event, isListed }: StrictEvent): boolean =>
    isListed || (demanded.get(event.pcr)?.has(event.digest) ?? false);
  const lines = findCommandLines(boot, isKnown);
  const lineEvents = new Set(lines.map(({ event }) => event));
  const sectionsAreSigned = kernel.images.includes('signed') && reference.unlisted.has('unified_kernel_sections');

  const violations = [...judgeCommandLines(lines, kernel), ...judgeFiles(boot, kernel, lines, isKnown)];
  for (const pcr of LOADER_PCRS) {
    if (pcr === FILE_PCR || (pcr === SECTION_PCR && sectionsAreSigned)) continue;
    for (const each of boot.events(pcr)) {
      const { event } = each;
      if (isKnown(each) || lineEvents.has(event)) continue;
      violations.push(violationBy(event, 'event_unexpected', { expected: LISTED, found: digestWords(event) }));
    }
  }
  for (const [pcr, list] of kernel.digests) {
    const there = new Set(boot.events(pcr).map(({ event }) => event.digest));
    for (const digests of list) {
      const expected = digests.get(bank);
      if (expected !== undefined && there.has(expected)) continue;
      violations.push({ reason: 'event_missing', pcr, expected: expected ?? `a digest of ${bank}` });
    }
  }
  return violations;
}
