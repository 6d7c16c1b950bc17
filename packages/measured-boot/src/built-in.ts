import { acceptAll, rejectAll } from './constant-policies.ts';
import { example } from './example.ts';
import type { MeasuredBootPolicy } from './policy.ts';
import { strict } from './strict.ts';

/** The policies that every verifier has. */
export const BUILT_IN_POLICIES: readonly MeasuredBootPolicy[] = [acceptAll, rejectAll, example, strict];
