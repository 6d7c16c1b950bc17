import { type ExtendSequence, extendTogether } from './extend-sequence.ts';

/**
 * What a long computation gives in the end. Between its steps it can be left for a while; what it yields is done when it goes on,
 * by itself if by nobody else.
 */
export type ExtendSteps<T> = Generator<ExtendSequence | undefined, T>;

/**
 * Runs several computations in turns, step by step, and what they are to extend for four at a time. Calls `ended` for each as soon as
 * it has ended, with what it returned or what it threw: one that throws stops none of the others.
 */
export function runSideBySide<T>(
  computations: readonly ExtendSteps<T>[],
  ended: (number: number, result: { readonly value: T } | { readonly error: unknown }) => void,
): void {
  const running = new Map(computations.entries());
  while (running.size > 0) {
    const waiting: ExtendSequence[] = [];
    for (const [number, steps] of running) {
      try {
        const step = steps.next();
        if (!step.done) {
          if (step.value !== undefined) waiting.push(step.value);
          continue;
        }
        running.delete(number);
        ended(number, { value: step.value });
      } catch (error) {
        running.delete(number);
        ended(number, { error });
      }
    }
    extendTogether(waiting);
  }
}
