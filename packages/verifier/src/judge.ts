import { declaredAlgorithms } from '@keylime/appraisal/algorithms';
import { appraiseInSteps, type Expectation } from '@keylime/appraisal/appraise';
import type { BootQuestion } from '@keylime/appraisal/boot-verdict';
import { type FailureEvent, failureEvent } from '@keylime/appraisal/event';
import { decodePullEvidence, isEvidence } from '@keylime/appraisal/evidence';
import { fromFirstEntry, type Progress } from '@keylime/appraisal/progress';
import type { HasTime } from '@keylime/appraisal/runtime-integrity';
import { isJsonObject, parseJsonWithin } from '@keylime/core/json';
import type { NonEmpty } from '@keylime/core/non-empty';
import type { ExtendSteps } from '@keylime/ima/side-by-side';
import type { Outcome } from './transition.ts';

/** Lists, objects and members in the JSON of evidence: it has a few dozen. */
export const MOST_JSON_PARTS = 10_000;

/** The evidence can be judged when the boot is: see `AttestationResult`. */
export type BootUnjudged = { readonly kind: 'boot_unjudged'; readonly question: BootQuestion };

/** What the body of an agent's answer to a quote request comes to. Can run in any thread; `hasTime` as in `appraise`. */
export function* judgeAnswer(
  body: Uint8Array,
  expectation: Expectation,
  progress: Progress,
  hasTime: HasTime,
): ExtendSteps<Outcome | BootUnjudged> {
  const json = parseJsonWithin(MOST_JSON_PARTS, body);
  const evidence = decodePullEvidence(isJsonObject(json) ? json.results : undefined);
  if (!isEvidence(evidence)) {
    return { kind: 'contraindicated', events: [failureEvent(evidence)], progress: fromFirstEntry(progress) };
  }
  const result = yield* appraiseInSteps(evidence, expectation, progress, hasTime);
  const declared = declaredAlgorithms(evidence);
  switch (result.verdict) {
    case 'affirming':
      return { kind: 'affirming', progress: result.progress, declared, uncertifiedEntries: result.uncertifiedEntries };
    case 'unfinished':
      return { kind: 'unfinished', progress: result.progress, declared, unjudgedEntries: result.unjudgedEntries };
    case 'boot_unjudged':
      return { kind: 'boot_unjudged', question: result.question };
    case 'inconclusive':
      return { kind: 'inconclusive', progress: result.progress, reason: result.reason };
    case 'contraindicated': {
      const events = result.failures.map(failureEvent) as unknown as NonEmpty<FailureEvent>;
      const { moreFailures, progress: next } = result;
      return { kind: 'contraindicated', declared, events, moreEvents: moreFailures, progress: next };
    }
  }
}

/** Time for so many milliseconds; `ranOut` says whether somebody was told that it is over. */
export type TimeBudget = {
  readonly hasTime: HasTime;
  readonly ranOut: () => boolean;
  /** Only the time within the steps counts, not that of others between them. */
  readonly spentIn: <T>(steps: ExtendSteps<T>) => ExtendSteps<T>;
};

export function timeFor(ms: number, now = () => performance.now()): TimeBudget {
  let left = ms;
  let until = Number.POSITIVE_INFINITY;
  let over = false;
  return {
    hasTime() {
      over ||= now() >= until;
      return !over;
    },
    ranOut: () => over,
    *spentIn(steps) {
      for (;;) {
        until = now() + left;
        const step = steps.next();
        left = until - now();
        if (step.done) return step.value;
        yield step.value;
      }
    },
  };
}
