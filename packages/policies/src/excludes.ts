import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { buildAutomaton, sizeOf } from './automaton.ts';
import { createMatcher, type Matcher } from './matcher.ts';
import { type Expression, parseExpression } from './regular-expression.ts';

/** Names that a runtime policy does not judge: whether any pattern matches a beginning of one; linear in its length, whatever the patterns. */
export type Excludes = Matcher;

/** A pattern that cannot be used. `index` counts from 0; absent where the patterns together are the problem. */
export type ExcludeProblem = { readonly index?: number; readonly message: string };

/** What one pattern, and a whole list, may need: room for some twenty thousand patterns of usual length. */
const MAX_STATES_PER_PATTERN = 10_000;
const MAX_STATES = 1_000_000;
const TOO_LARGE = `needs more than ${MAX_STATES_PER_PATTERN} states: lower its counted repetitions`;
const TOO_MANY = `the patterns together need more than ${MAX_STATES} states: use fewer or shorter ones`;

/**
 * Compiles an exclude list: Python regular expressions matched at the beginning of a name and not necessarily to its end,
 * so `/tmp` excludes `/tmpfoo` but not `/var/tmp`. The dialect is in docs/policies-regular-expressions.md. One pattern
 * that cannot be used makes the list unusable, and all such patterns are reported.
 */
export function compileExcludes(patterns: readonly string[]): Parsed<Excludes, NonEmpty<ExcludeProblem>> {
  if (patterns.length === 0) return good({ matches: () => false, matchesAscii: () => false });
  const problems: ExcludeProblem[] = [];
  const expressions: Expression[] = [];
  let states = 0;
  for (const [index, pattern] of patterns.entries()) {
    const parsed = parseExpression(pattern);
    if (!parsed.ok) {
      problems.push({ index, message: `${parsed.problem.message} at position ${parsed.problem.at}` });
      continue;
    }
    const size = sizeOf(parsed.value);
    states += size;
    if (size > MAX_STATES_PER_PATTERN) problems.push({ index, message: TOO_LARGE });
    else expressions.push(parsed.value);
  }
  if (states > MAX_STATES && problems.length === 0) problems.push({ message: TOO_MANY });
  if (isNonEmpty(problems)) return bad(problems);
  const automaton = buildAutomaton(expressions);
  if (automaton === undefined) return bad([{ message: 'the patterns use too many different character sets' }]);
  return good(createMatcher(automaton));
}
