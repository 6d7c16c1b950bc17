import type { Expectation } from '@keylime/appraisal/appraise';
import type { Progress } from '@keylime/appraisal/progress';
import type { HasTime } from '@keylime/appraisal/runtime-integrity';
import { RecentMap } from '@keylime/core/recent-map';
import type { ExtendSteps } from '@keylime/ima/side-by-side';
import { policyCache } from '@keylime/policies/policy-cache';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { openSharedPolicy, type SharedPolicy } from '@keylime/policies/shared-policy';
import { answerEvidence, type BootRules, type EvidenceAnswer } from './evidence-request.ts';
import { type BootUnjudged, judgeAnswer, timeFor } from './judge.ts';
import { answerTasks } from './thread-tasks.ts';
import type { Outcome } from './transition.ts';

/** What a worker is asked. A policy is named, and comes along where the worker does not have it. */
export type AppraisalTask =
  | {
      readonly kind: 'answer';
      readonly body: Uint8Array;
      readonly expectation: Omit<Expectation, 'runtimePolicy'>;
      /** Of the policy that was looked at when it was loaded. */
      readonly policyChecksum: string;
      readonly policy?: SharedPolicy;
      readonly progress: Progress;
      /** After so long what is left of the list waits for the next round. */
      readonly roundMs: number;
    }
  | { readonly kind: 'evidence'; readonly body: Uint8Array; readonly boot: BootRules };

/** What a worker says to an answer: also that it needs the policy. */
export type AnswerJudged = Outcome | BootUnjudged | { readonly kind: 'policy_wanted' };

/** Those that were used last, by checksum, and those of strangers' evidence. */
const policies = new RecentMap<string, RuntimePolicy>(16);
const policiesOfEvidence = policyCache(16);

function* run(task: AppraisalTask): ExtendSteps<EvidenceAnswer | AnswerJudged> {
  if (task.kind === 'evidence') return answerEvidence(task.body, policiesOfEvidence, task.boot);
  const { body, expectation, policyChecksum, policy, progress, roundMs } = task;
  const runtimePolicy = policies.get(policyChecksum) ?? (policy && open(policy, policyChecksum));
  if (!runtimePolicy) return { kind: 'policy_wanted' };
  const judged = (hasTime: HasTime) => judgeAnswer(body, { ...expectation, runtimePolicy }, progress, hasTime);
  const { hasTime, ranOut, spentIn } = timeFor(roundMs);
  const outcome = yield* spentIn(judged(hasTime));
  // [MUST] After a failure the next round begins the list anew: a light one must not keep a grave one, far behind it, from ever
  // being found. So all of the list is judged now; where even a thread's time is too short for that, nothing is judged.
  return outcome.kind === 'contraindicated' && ranOut() ? yield* judged(() => true) : outcome;
}

/** [MUST] No other policy than the one that is named. */
function open(shared: SharedPolicy, checksum: string): RuntimePolicy {
  if (shared.checksum !== checksum) throw new Error('The runtime policy that came along is another one.');
  const policy = openSharedPolicy(shared);
  policies.set(checksum, policy);
  return policy;
}

answerTasks(run);
