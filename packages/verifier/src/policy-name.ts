import { HttpProblem } from '@keylime/service/http-problem';

export const POLICY_NAME_RULE = 'A policy name has at most 255 characters and no control characters.';

/** Whether a policy may have this name: it stands in paths and in text columns, of which PostgreSQL's take no U+0000. */
export const isPolicyName = (text: string): boolean =>
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  text.length > 0 && text.length <= 255 && !/[\u0000-\u001f\u007f]/.test(text) && text.isWellFormed();

/** The name of a policy in a path. @throws HttpProblem */
export function policyNameOf(text: string): string {
  if (!isPolicyName(text)) throw new HttpProblem(400, POLICY_NAME_RULE);
  return text;
}
