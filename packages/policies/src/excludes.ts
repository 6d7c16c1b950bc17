import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { AutomatonBuilder, MAX_STATES_PER_EXPRESSION } from './automaton.ts';
import { createMatcher } from './matcher.ts';
import { parseExpression } from './regular-expression.ts';

/** Names that a runtime policy does not judge. */
export type Excludes = {
  /** Whether any pattern matches a beginning of `name`; linear in its length, whatever the patterns. */
  readonly matches: (name: string) => boolean;
};

/** A pattern that cannot be used. `index` counts from 0; absent where the patterns together are the problem. */
export type ExcludeProblem = { readonly index?: number; readonly message: string };

/**
 * Compiles an exclude list: Python regular expressions matched at the beginning of a name and not necessarily to its end,
 * so `/tmp` excludes `/tmpfoo` but not `/var/tmp`. The dialect is in docs/policies-regular-expressions.md. One pattern
 * that cannot be used makes the list unusable, and all such patterns are reported.
 */
export function compileExcludes(patterns: readonly string[]): Parsed<Excludes, NonEmpty<ExcludeProblem>> {
  if (patterns.length === 0) return good({ matches: () => false });
  const problems: ExcludeProblem[] = [];
  const builder = new AutomatonBuilder();
  for (const [index, pattern] of patterns.entries()) {
    const parsed = parseExpression(pattern);
    if (!parsed.ok) {
      problems.push({ index, message: `${parsed.problem.message} at position ${parsed.problem.at}` });
    } else if (!builder.add(parsed.value)) {
      const limit = `more than ${MAX_STATES_PER_EXPRESSION} states, or too many with the patterns before`;
      problems.push({ index, message: `too large: ${limit}; lower its counted repetitions` });
    }
  }
  if (isNonEmpty(problems)) return bad(problems);
  const automaton = builder.finish();
  if (automaton === undefined) return bad([{ message: 'the patterns use too many different character sets' }]);
  const matches = createMatcher(automaton);
  return good({ matches });
}
