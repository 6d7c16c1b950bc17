import { isJsonObject, type Json } from '@keylime/core/json';
import { EXAMPLE_MEMBERS } from './reference-json.ts';

const OF_EXAMPLE: ReadonlySet<string> = new Set(EXAMPLE_MEMBERS);

/**
 * The members of a reference state that the built-in policy `rules` does not look at, whatever they say: all for
 * `accept-all`, and those that only `strict` knows for `example`. None for `strict`, which refuses what it does not know, and
 * `reject-all`, which refuses all.
 */
export function membersPassedOver(rules: string, reference: Json | undefined): readonly string[] {
  if (!isJsonObject(reference)) return [];
  const members = Object.keys(reference);
  if (rules === 'accept-all') return members;
  return rules === 'example' ? members.filter((name) => !OF_EXAMPLE.has(name)) : [];
}
