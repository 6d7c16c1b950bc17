import { parseJson } from '@keylime/core/json';

/** [compat] Of a reference state without content, such as `{}`, the existing verifier asks nothing of a boot. */
export function isEmptyReference(text: string): boolean {
  const json = parseJson(text);
  if (json === undefined) return text === '';
  return !json || (typeof json === 'object' && Object.keys(json).length === 0);
}
