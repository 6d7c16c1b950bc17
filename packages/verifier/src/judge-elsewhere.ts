import type { Expectation } from '@keylime/appraisal/appraise';
import type { BootVerdict } from '@keylime/appraisal/boot-verdict';
import { fromFirstEntry, type Progress } from '@keylime/appraisal/progress';
import { runSteps } from '@keylime/core/steps';
import { sharePolicy } from '@keylime/policies/shared-policy';
import type { AnswerJudged, AppraisalTask } from './appraisal-worker.ts';
import type { Judge } from './attest.ts';
import type { BootPolicies } from './boot-policies.ts';
import { type BootUnjudged, judgeAnswer, timeFor } from './judge.ts';
import { type ThreadPool, ThreadPoolError } from './thread-pool.ts';
import type { Outcome } from './transition.ts';

/** Answers up to this size are judged where they arrive: a few milliseconds, if all goes well. */
const SMALL_BYTES = 512 * 1024;
/** A list that takes longer, such as one of many signatures, is judged elsewhere after all. */
const HERE_MS = 20;

export type JudgeParts = {
  readonly pool: ThreadPool<AppraisalTask>;
  readonly bootPolicies: Pick<BootPolicies, 'judge'>;
  /** For so long a thread judges one list before others get their turn. */
  readonly roundMs: number;
  /** Called when an answer is handed over to a thread. */
  readonly onHandOver?: () => void;
};

/**
 * Judges small answers at once, and those that are large or take long in another thread, so that other agents do not wait for
 * a long list; a boot that was not judged yet is judged first, in a thread too.
 */
export function judgeHereOrElsewhere({ pool, bootPolicies, roundMs, onHandOver }: JudgeParts): Judge {
  async function judge(body: Buffer, expectation: Expectation, progress: Progress): Promise<Outcome | BootUnjudged> {
    if (body.length > SMALL_BYTES) return elsewhere(body, expectation, progress);
    const { hasTime, ranOut, spentIn } = timeFor(HERE_MS);
    let outcome: Outcome | BootUnjudged;
    try {
      outcome = runSteps(spentIn(judgeAnswer(body, expectation, progress, hasTime)));
    } catch (error) {
      return unjudged(error, fromFirstEntry(progress));
    }
    // Not even a failure is told before all of the list was looked at: the entry that it is about may come later.
    return ranOut() ? elsewhere(body, expectation, progress) : outcome;
  }

  async function elsewhere(
    body: Buffer,
    expectation: Expectation,
    progress: Progress,
  ): Promise<Outcome | BootUnjudged> {
    const { runtimePolicy, ...plain } = expectation;
    const { checksum: policyChecksum } = runtimePolicy;
    const task = { kind: 'answer', body, expectation: plain, policyChecksum, progress, roundMs } as const;
    const answered = pool.run<AnswerJudged>(task);
    onHandOver?.();
    const first = await orOutcome(answered, progress);
    if (first.kind !== 'policy_wanted') return first;
    const policy = sharePolicy(runtimePolicy);
    const outcome = await orOutcome(pool.run<AnswerJudged>({ ...task, policy }), progress);
    return outcome.kind === 'policy_wanted' ? unjudged('the thread asked for the policy twice', progress) : outcome;
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
    if (!(error instanceof ThreadPoolError)) throw error;
    if (error.code === 'pool_full') return { kind: 'postponed', reason: error.message };
    return unjudged(error, error.code === 'task_timeout' ? progress : fromFirstEntry(progress));
  }
}

const withVerdict = (expectation: Expectation, verdict: BootVerdict): Expectation => ({
  ...expectation,
  ...(expectation.measuredBoot && { measuredBoot: { ...expectation.measuredBoot, verdict } }),
});

/**
 * An answer that took too long or on which our own code broke is neither good nor bad, and must not be the way to stay
 * unjudged: it is asked for again, and too many such rounds in a row are a failure.
 */
const unjudged = (error: unknown, progress: Progress): Outcome => ({
  kind: 'unjudged',
  progress,
  reason: error instanceof Error ? error.message : String(error),
});
