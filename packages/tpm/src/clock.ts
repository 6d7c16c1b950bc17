import type { TpmsClockInfo } from './attest.ts';

/** What is wrong with a TPM's clock. A `recoverable` problem goes away by itself: ask again later. */
export type ClockProblem =
  | {
      readonly kind: 'clock_reset_count_decreased' | 'clock_restart_count_decreased';
      readonly recoverable: false;
      readonly previous: number;
      readonly current: number;
    }
  | {
      readonly kind: 'clock_not_advanced';
      readonly recoverable: false;
      readonly previous: bigint;
      readonly current: bigint;
    }
  | { readonly kind: 'clock_unsafe'; readonly recoverable: true };

/** Whether the TPM was reset (its machine rebooted) in between: the next attestation must start from entry 0. */
export const wasReset = (previous: TpmsClockInfo | undefined, current: TpmsClockInfo): boolean =>
  previous !== undefined && current.resetCount > previous.resetCount;

/**
 * Compares the clocks of two quotes by the same AK (TPM 2.0 Part 1 r1.59, section 36). `previous` is `undefined` for
 * the first quote of an AK: counters mean nothing across keys. Counts may only grow; restartCount begins at 0 with
 * each reset, so it is compared within one resetCount only. `clock` must move, except that a TPM which lost power may
 * have lost some of it and says so by `safe` = no, for a while.
 */
export function clockProblems(
  previous: TpmsClockInfo | undefined,
  { clock, resetCount, restartCount, safe }: TpmsClockInfo,
): readonly ClockProblem[] {
  const problems: ClockProblem[] = safe ? [] : [{ kind: 'clock_unsafe', recoverable: true }];
  if (previous === undefined) return problems;
  const decreased = { recoverable: false } as const;
  if (resetCount < previous.resetCount) {
    const counts = { previous: previous.resetCount, current: resetCount };
    problems.push({ kind: 'clock_reset_count_decreased', ...decreased, ...counts });
  }
  if (resetCount === previous.resetCount && restartCount < previous.restartCount) {
    const counts = { previous: previous.restartCount, current: restartCount };
    problems.push({ kind: 'clock_restart_count_decreased', ...decreased, ...counts });
  }
  const mayLag = !safe && resetCount > previous.resetCount;
  if (clock <= previous.clock && !mayLag) {
    problems.push({ kind: 'clock_not_advanced', ...decreased, previous: previous.clock, current: clock });
  }
  return problems;
}
