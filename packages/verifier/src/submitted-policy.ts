import { isJsonObject, parseJson } from '@keylime/core/json';
import type { NonEmpty } from '@keylime/core/non-empty';
import { decodeRuntimePolicy, type PolicyProblem } from '@keylime/policies/runtime-policy';
import type { StoredPolicy } from './policy-store.ts';

/** Why a submitted policy is not taken: the status code and text of the answer (03 section 5.2 of the reference). */
export type PolicyRefusal = { readonly code: 400 | 401; readonly status: string };

/** The policy of `text`, ready to be stored under `name`, or why not. Nothing that does not decode is ever stored. */
export function acceptPolicy(
  name: string,
  text: string,
  settings: { readonly requireSignature: boolean },
): StoredPolicy | PolicyRefusal {
  if (settings.requireSignature && !isJsonObject(parseJson(text))) {
    return { code: 400, status: 'Runtime policy is not valid JSON!' };
  }
  if (settings.requireSignature) {
    return { code: 401, status: 'Runtime policy signature verification required but no key was given!' };
  }
  const decoded = decodeRuntimePolicy(text);
  if (!decoded.ok) return { code: 400, status: refusalText(decoded.problem) };
  const { checksum, generator } = decoded.value;
  return { name, text, checksum, generator };
}

function refusalText(problems: NonEmpty<PolicyProblem>): string {
  const [first, ...more] = problems;
  const others = more.length === 0 ? '' : ` (and ${more.length} more problems)`;
  const where = first.path.length === 0 ? '' : ` at ${first.path.join('.')}`;
  return first.kind === 'not_json'
    ? first.message
    : `Runtime policy is malformatted: ${first.message}${where}${others}`;
}

export const isRefusal = (result: StoredPolicy | PolicyRefusal): result is PolicyRefusal => 'code' in result;
