import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Steps } from '@keylime/core/steps';

/** Runs the steps in turns of about `turnMs`, between which the event loop does what else is to do. */
export async function runStepsInTurns<T>(steps: Steps<T>, turnMs = 10): Promise<T> {
  for (;;) {
    const end = performance.now() + turnMs;
    let step = steps.next();
    while (!step.done && performance.now() < end) step = steps.next();
    if (step.done) return step.value;
    await nextTurn();
  }
}
