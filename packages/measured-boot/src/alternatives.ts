import type { BootViolation } from './policy.ts';

/** Of alternatives, what speaks against the one that the boot is most like. A reference state has at least one. */
export const closest = (alternatives: readonly (readonly BootViolation[])[]): readonly BootViolation[] =>
  alternatives.reduce((best, next) => (next.length < best.length ? next : best));
