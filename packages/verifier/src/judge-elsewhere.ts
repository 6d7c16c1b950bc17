import { fromFirstEntry, type Progress } from '@keylime/appraisal/progress';
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
    try {
      return await pool.run<Outcome>({ kind: 'answer', body, expectation: plain, policyText, progress });
    } catch (error) {
      // A full queue is a fault of ours, and tried again; what a thread could not do is the answer's.
      if (!(error instanceof AppraisalPoolError) || error.code === 'pool_full') throw error;
      // The agent made it so large: as if it had not answered in time.
      if (error.code === 'task_timeout') return { kind: 'unreachable', reason: error.message };
      return unjudged(error, progress);
    }
  };

/**
 * An answer on which our own code broke is neither good nor bad, and must not be the way to stay unjudged: it is asked again,
 * and too many such rounds in a row are a failure.
 */
const unjudged = (error: unknown, progress: Progress): Outcome => ({
  kind: 'inconclusive',
  progress: fromFirstEntry(progress),
  reason: `the answer could not be judged: ${error instanceof Error ? error.message : error}`,
});
