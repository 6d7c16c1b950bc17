import { isJsonObject } from '@keylime/core/json';
import { bad, good } from '@keylime/core/parsed';
import type { BootViolation, MeasuredBootPolicy } from '@keylime/measured-boot/policy';

const asked = new Set<unknown>();

/** Throws, ends its thread, computes for ever, or answers once only, where the reference state says so; otherwise accepts. */
const moody: MeasuredBootPolicy = {
  name: 'moody',
  pcrs: [0, 4, 7],
  decodeReference(json) {
    const mood = isJsonObject(json) ? json.mood : undefined;
    if (mood === 'refuses to be read') throw new Error('not readable');
    if (typeof mood === 'string') return good(mood);
    return bad([{ path: 'mood', message: 'good, good once, throws, ends or loops is wanted' }]);
  },
  evaluate(_, mood): readonly BootViolation[] {
    if (mood === 'throws') throw new Error('no, thanks');
    if (mood === 'ends') process.exit(0);
    if (mood === 'good once' && asked.has(mood)) throw new Error('asked again');
    asked.add(mood);
    while (mood === 'loops');
    return [];
  },
};

/** As an operator would write them, in a file that `measured_boot_imports` names. */
export const policies: readonly MeasuredBootPolicy[] = [moody];
