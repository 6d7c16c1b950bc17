import type { Expectation } from '@keylime/appraisal/appraise';
import type { BootVerdict } from '@keylime/appraisal/boot-verdict';
import { fromFirstEntry, type Progress } from '@keylime/appraisal/progress';
import type { AppraisalTask } from './appraisal-worker.ts';
import type { Judge } from './attest.ts';
import type { BootPolicies } from './boot-policies.ts';
import { type BootUnjudged, judgeAnswer } from './judge.ts';
import type { PolicyStore } from './policy-store.ts';
import { type ThreadPool, ThreadPoolError } from './thread-pool.ts';
import type { Outcome } from './transition.ts';

/** Answers up to this size are judged where they arrive: a few milliseconds. */
const SMALL_BYTES = 512 * 1024;

export type JudgeParts = {
  readonly pool: ThreadPool<AppraisalTask>;
  readonly policies: Pick<PolicyStore, 'findText'>;
  readonly bootPolicies: Pick<BootPolicies, 'judge'>;
};

/**
 * Judges small answers at once and large ones in another thread, so that other agents do not wait for a long list; a boot
 * that was not judged yet is judged first, in a thread too.
 */
export function judgeHereOrElsewhere({ pool, policies, bootPolicies }: JudgeParts): Judge {
  async function judge(body: Buffer, expectation: Expectation, progress: Progress): Promise<Outcome | BootUnjudged> {
    if (body.length <= SMALL_BYTES) {
      try {
        return judgeAnswer(body, expectation, progress);
      } catch (error) {
        return unjudged(error, progress);
      }
    }
    const { runtimePolicy, ...plain } = expectation;
    const policyText = await policies.findText(runtimePolicy.checksum);
    if (policyText === undefined) throw new Error('The runtime policy was changed while the answer was on its way.');
    const { checksum: policyChecksum } = runtimePolicy;
    const task = { kind: 'answer', body, expectation: plain, policyText, policyChecksum, progress } as const;
    return orOutcome(pool.run(task), progress);
  }
  return async (body, expectation, progress) => {
    const first = await judge(body, expectation, progress);
    if (first.kind !== 'boot_unjudged') return first;
    const verdict = await orOutcome(bootPolicies.judge(first.question, 'agent'), progress);
    if ('kind' in verdict) return verdict;
    const outcome = await judge(body, withVerdict(expectation, verdict), progress);
    return outcome.kind === 'boot_unjudged' ? unjudged('the verdict is of another boot', progress) : outcome;
  };
}

/** What a thread answers, or what it means that it did not. */
async function orOutcome<T>(answer: Promise<T>, progress: Progress): Promise<T | Outcome> {
  try {
    return await answer;
  } catch (error) {
    // A full queue is a fault of ours, and tried again; what a thread could not do is the answer's.
    if (!(error instanceof ThreadPoolError) || error.code === 'pool_full') throw error;
    // The agent made it so large: as if it had not answered in time.
    if (error.code === 'task_timeout') return { kind: 'unreachable', reason: `judging its answer: ${error.message}` };
    return unjudged(error, progress);
  }
}

const withVerdict = (expectation: Expectation, verdict: BootVerdict): Expectation => ({
  ...expectation,
  ...(expectation.measuredBoot && { measuredBoot: { ...expectation.measuredBoot, verdict } }),
});

/**
 * An answer on which our own code broke is neither good nor bad, and must not be the way to stay unjudged: it is asked again,
 * and too many such rounds in a row are a failure.
 */
const unjudged = (error: unknown, progress: Progress): Outcome => ({
  kind: 'inconclusive',
  progress: fromFirstEntry(progress),
  reason: `the answer could not be judged: ${error instanceof Error ? error.message : error}`,
});
