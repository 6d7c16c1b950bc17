import { fromFirstEntry, type Progress } from '@keylime/appraisal/progress';
import { isJsonObject } from '@keylime/core/json';
import type { Outcome } from '../transition.ts';
import type { Attestation } from './attestation.ts';

/** What is to be judged of evidence: all of it, or what earlier rounds left of its measurement list. */
export type Remaining = {
  readonly body: Buffer;
  /** The entry with which the list begins. */
  readonly firstEntry: number;
  readonly progress: Progress;
};

/**
 * What is left to judge. A part of the list counts as judged only where the agent's progress ends with it, under this policy;
 * otherwise (an operator reactivated the agent meanwhile, the policy changed) all is judged again.
 */
export function remainingOf(
  { chosen, collected }: Pick<Attestation, 'chosen' | 'collected'>,
  body: Buffer,
  progress: Progress,
  policyChecksum: string,
): Remaining {
  const firstEntry = chosen.imaLog?.startingEntry ?? 0;
  const judgedTo = collected?.imaLogJudgedTo;
  if (judgedTo === undefined) return { body, firstEntry, progress };
  // The first round compared this very quote with the one before, and remembered it: it is not compared with itself.
  const { clock, quoteProgress, ...compared } = progress;
  if (judgedTo !== progress.nextEntry || policyChecksum !== progress.policyChecksum) {
    return { body, firstEntry, progress: compared };
  }
  return { body: withoutEntries(body, judgedTo - firstEntry, judgedTo), firstEntry: judgedTo, progress: compared };
}

/** The outcome, with what was left out of `before` for `remainingOf` where nothing newer came of it. */
export function remembering(outcome: Outcome, before: Progress): Outcome {
  if (!('progress' in outcome) || outcome.progress.clock !== undefined) return outcome;
  return { ...outcome, progress: outcome.progress.nextEntry === 0 ? fromFirstEntry(before) : before };
}

/** The evidence without the first `count` entries of its list, which then begins with entry `firstEntry`. */
function withoutEntries(body: Buffer, count: number, firstEntry: number): Buffer {
  const { results }: { readonly results: unknown } = JSON.parse(body.toString());
  if (!isJsonObject(results) || typeof results.ima_measurement_list !== 'string') return body;
  const list = results.ima_measurement_list;
  let at = 0;
  // As entries are counted where they are judged: blank lines are none.
  for (let passed = 0; passed < count && at < list.length; ) {
    const newline = list.indexOf('\n', at);
    const end = newline === -1 ? list.length : newline;
    if (end > at) passed++;
    at = end + 1;
  }
  const rest = { ...results, ima_measurement_list: list.slice(at), ima_measurement_list_entry: firstEntry };
  return Buffer.from(JSON.stringify({ results: rest }));
}
