import { type AppraisalPool, AppraisalPoolError } from './appraisal-pool.ts';
import type { Judge } from './attest.ts';
import { judgeAnswer } from './judge.ts';
import type { PolicyStore } from './policy-store.ts';
import type { Outcome } from './transition.ts';

/** Answers up to this size are judged where they arrive: a few milliseconds. */
const SMALL_BYTES = 512 * 1024;

/** Judges small answers at once and large ones in another thread, so that other agents do not wait for a long list. */
export const judgeHereOrElsewhere =
  (pool: AppraisalPool, policies: Pick<PolicyStore, 'findText'>): Judge =>
  async (body, expectation, progress) => {
    if (body.length <= SMALL_BYTES) return judgeAnswer(body, expectation, progress);
    const { runtimePolicy, ...plain } = expectation;
    const policyText = await policies.findText(runtimePolicy.checksum);
    if (policyText === undefined) throw new Error('The runtime policy was changed while the answer was on its way.');
    try {
      return await pool.run<Outcome>({ kind: 'answer', body, expectation: plain, policyText, progress });
    } catch (error) {
      if (!(error instanceof AppraisalPoolError) || error.code !== 'task_timeout') throw error;
      // The agent made it so large: as if it had not answered in time.
      return { kind: 'unreachable', reason: error.message };
    }
  };
