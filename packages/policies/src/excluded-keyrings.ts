import type { RuntimePolicy } from './runtime-policy.ts';

/** Keyrings whose keys Linux may measure. Source: security/integrity/digsig.c, certs/system_keyring.c. */
const KEYRINGS: readonly string[] = [
  '.ima',
  '.evm',
  '.builtin_trusted_keys',
  '.secondary_trusted_keys',
  '.machine',
  '.platform',
  '.blacklist',
  '_ima',
  '_evm',
];

/**
 * Keyrings that the exclude list of a policy matches. Excludes are for files: they admit no keys, which is not what somebody
 * expects who wrote one for a keyring, or one for everything.
 */
export const excludedKeyrings = ({ excludes, keyrings, ignoredKeyrings }: RuntimePolicy): readonly string[] =>
  [...new Set([...KEYRINGS, ...keyrings.keys()])].filter(
    (name) => !ignoredKeyrings.has(name) && excludes.matches(name),
  );

/** The same as a warning for whoever stores the policy; `undefined` where there is nothing to say. */
export function excludedKeyringsWarning(policy: RuntimePolicy): string | undefined {
  const names = excludedKeyrings(policy);
  if (names.length === 0) return undefined;
  return (
    `The exclude list matches the keyrings ${names.join(', ')}, but excludes admit no keys: ` +
    'name the keys in keyrings, or the keyrings in ima.ignored_keyrings'
  );
}
