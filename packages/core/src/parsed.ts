/** What a parser of untrusted text returns: the value, or what is wrong with the text. */
export type Parsed<T, Problem> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly problem: Problem };

export const good = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value });

export const bad = <Problem>(problem: Problem): { readonly ok: false; readonly problem: Problem } => ({
  ok: false,
  problem,
});
