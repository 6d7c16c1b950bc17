import { isJsonObject } from '@keylime/core/json';
import { bad, good } from '@keylime/core/parsed';
import type { BootViolation, MeasuredBootPolicy } from '@keylime/measured-boot/policy';

const asked = new Set<unknown>();

/** Throws, now or later, ends its thread, computes for ever, promises, or answers once only, as its reference state says; otherwise accepts. */
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
    if (mood === 'promises') return Promise.reject(new Error('broken')) as unknown as readonly BootViolation[];
    if (mood === 'breaks later') {
      setTimeout(() => {
        throw new Error('late');
      }, 20);
    }
    return [];
  },
};

/** As an operator would write them, in a file that `measured_boot_imports` names. */
export const policies: readonly MeasuredBootPolicy[] = [moody];
