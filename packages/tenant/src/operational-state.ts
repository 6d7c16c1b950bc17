import type { Json } from '@keylime/core/json';

/** Names of the operational states by their number on the wire (spec 07 section 3.8). [compat] Scripts compare them. */
const STATE_NAMES = [
  'Registered',
  'Start',
  'Saved',
  'Get Quote',
  'Get Quote (retry)',
  'Provide V',
  'Provide V (retry)',
  'Failed',
  'Terminated',
  'Invalid Quote',
  'Tenant Quote Failed',
] as const;

/** What the registrar's record of an agent is shown with. */
export const REGISTERED = STATE_NAMES[0];

/** The name of a state; a number that has none is shown as it is. */
export const stateName = (state: number): string => STATE_NAMES[state] ?? String(state);

/**
 * A verifier's record of an agent as it is shown: the state in words and first, and never the key share `v`, which the
 * existing services disclose.
 */
export function shownStatus(
  results: { readonly [key: string]: Json },
  state: Json | undefined,
): { readonly [key: string]: Json } {
  const { operational_state, ...rest } = results;
  const shown = typeof state === 'number' ? stateName(state) : state;
  const hidden = Object.hasOwn(rest, 'v') ? { ...rest, v: null } : rest;
  return shown === undefined ? hidden : { operational_state: shown, ...hidden };
}
