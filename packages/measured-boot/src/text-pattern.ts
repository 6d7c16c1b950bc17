import { bad, good, type Parsed } from '@keylime/core/parsed';
import { compileExcludes } from '@keylime/policies/excludes';

/** A Python regular expression that has to match all of a text, in time linear in the text. */
export type TextPattern = { readonly source: string; readonly matches: (text: string) => boolean };

/** Compiles `source`; the problem says what is wrong with it and where. The dialect: docs/policies-regular-expressions.md. */
export function compilePattern(source: string): Parsed<TextPattern, string> {
  // By itself first: a parenthesis too many must not close the group that is put around it.
  const alone = compileExcludes([source]);
  const whole = alone.ok ? compileExcludes([`(?:${source})\\Z`]) : alone;
  return whole.ok ? good({ source, matches: whole.value.matches }) : bad(whole.problem[0].message);
}
