import { digestHex } from '@keylime/core/digest';
import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import { inBank } from './reference-values.ts';
import type { StrictBoot } from './strict-boot.ts';
import type { StrictReference } from './strict-reference.ts';

const SHIM_PCR = 14;

/**
 * PCR 14: what shim trusts besides db. The names are hints, so the order tells: MokList, MokListX where the reference state
 * has them, then at most the switch MokListTrusted.
 */
export function judgeMokLists(boot: StrictBoot, { mokList, mokListX }: StrictReference): readonly BootViolation[] {
  const { bank } = boot;
  const lists = [
    { name: 'MokList', reason: 'mok_list', digests: inBank(mokList, bank), isThere: mokList.length > 0 },
    { name: 'MokListX', reason: 'mok_list_x', digests: inBank(mokListX, bank), isThere: mokListX.length > 0 },
  ].filter(({ isThere }) => isThere);
  const switches = new Set([0, 1].map((value) => digestHex(bank, Buffer.of(value))));
  const violations: BootViolation[] = [];
  let next = 0;
  let switched = false;
  for (const { event, isListed } of boot.events(SHIM_PCR)) {
    const wanted = lists[next];
    if (wanted?.digests.has(event.digest)) next++;
    else if (isListed) continue;
    else if (wanted === undefined && !switched && switches.has(event.digest)) switched = true;
    else if (wanted === undefined) {
      violations.push(violationBy(event, 'event_unexpected', { expected: 'nothing more', found: digestWords(event) }));
    } else {
      next++;
      const expected = [...wanted.digests].join(' or ') || `a digest of ${bank}`;
      violations.push(violationBy(event, `${wanted.reason}_unexpected`, { expected, found: digestWords(event) }));
    }
  }
  for (const { name, reason } of lists.slice(next)) {
    violations.push({ reason: `${reason}_missing`, pcr: SHIM_PCR, expected: name });
  }
  return violations;
}
