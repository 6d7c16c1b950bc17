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
const excludedKeyrings = ({ excludes, keyrings, ignoredKeyrings }: RuntimePolicy): readonly string[] =>
  [...new Set([...KEYRINGS, ...keyrings.keys()])].filter(
    (name) => !ignoredKeyrings.has(name) && excludes.matches(name),
  );

/** What a policy says and hardly means, for whoever makes or stores it. */
export const policyWarnings = (policy: RuntimePolicy): readonly string[] =>
  [keyringsWarning(policy), everythingWarning(policy)].filter((warning) => warning !== undefined);

function keyringsWarning(policy: RuntimePolicy): string | undefined {
  const names = excludedKeyrings(policy);
  if (names.length === 0) return undefined;
  return (
    `The exclude list matches the keyrings ${names.join(', ')}, but excludes admit no keys: ` +
    'name the keys in keyrings, or the keyrings in ima.ignored_keyrings'
  );
}

/** Paths that no exclude is about, unless it is about all. */
const UNHEARD_OF = ['/\u0001', '/usr/bin/\u0001'];

function everythingWarning({ excludes }: RuntimePolicy): string | undefined {
  if (!UNHEARD_OF.every((path) => excludes.matches(path))) return undefined;
  return (
    'The exclude list matches every path, so no file is judged at all: ' +
    'look for a pattern that is empty, or only the beginning of what was meant'
  );
}
