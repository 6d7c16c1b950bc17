import type { Expectation } from '@keylime/appraisal/appraise';
import type { Progress } from '@keylime/appraisal/progress';
import { policyCache } from '@keylime/policies/policy-cache';
import { answerEvidence, type BootRules } from './evidence-request.ts';
import { judgeAnswer } from './judge.ts';
import { answerTasks } from './thread-tasks.ts';

/** What a worker is asked; policies come as text, because a decoded one cannot cross over. */
export type AppraisalTask =
  | {
      readonly kind: 'answer';
      readonly body: Uint8Array;
      readonly expectation: Omit<Expectation, 'runtimePolicy'>;
      readonly policyText: string;
      /** Of the policy that was looked at when it was loaded. */
      readonly policyChecksum: string;
      readonly progress: Progress;
    }
  | { readonly kind: 'evidence'; readonly body: Uint8Array; readonly boot: BootRules };

const policies = policyCache(8);

function run(task: AppraisalTask): unknown {
  if (task.kind === 'evidence') return answerEvidence(task.body, policies, task.boot);
  const policy = policies.decode(task.policyText);
  if (!policy.ok) throw new Error(`The runtime policy does not decode: ${policy.problem[0].message}`);
  if (policy.value.checksum !== task.policyChecksum) throw new Error('The text of the runtime policy is another one.');
  return judgeAnswer(task.body, { ...task.expectation, runtimePolicy: policy.value }, task.progress);
}

answerTasks(run);
