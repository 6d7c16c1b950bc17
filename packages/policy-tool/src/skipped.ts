import { showName } from '@keylime/ima/list-text';
import type { Log } from '@keylime/service/log';
import { ToolError } from './tool-error.ts';

/** What did not become part of a policy, counted by reason. */
export type Skipped = {
  /** By a rule: nothing is wrong. */
  readonly left: (reason: string, name: string) => void;
  /** For want of something: the policy is not what was asked for. */
  readonly failed: (reason: string, name: string) => void;
  /** Logs the counts. @throws ToolError `skipped` if something failed and that is not to be accepted */
  readonly report: (log: Log, failOnSkip: boolean) => void;
};

const MOST_EXAMPLES = 3;

export function countSkipped(): Skipped {
  const counts = new Map<string, { readonly isFailure: boolean; count: number; readonly examples: string[] }>();
  const add = (isFailure: boolean) => (reason: string, name: string) => {
    const known = counts.get(reason) ?? { isFailure, count: 0, examples: [] };
    known.count++;
    if (known.examples.length < MOST_EXAMPLES) known.examples.push(showName(name));
    counts.set(reason, known);
  };
  return {
    left: add(false),
    failed: add(true),
    report(log, failOnSkip) {
      let failures = 0;
      for (const [reason, { isFailure, count, examples }] of counts) {
        const line = `Skipped ${count}: ${reason} (${examples.join(', ')}${count > examples.length ? ', ...' : ''})`;
        if (isFailure) log.warn(line);
        else log.info(line);
        if (isFailure) failures += count;
      }
      if (failures > 0 && failOnSkip) {
        throw new ToolError('skipped', `${failures} files or entries could not be taken into the policy`);
      }
    },
  };
}
