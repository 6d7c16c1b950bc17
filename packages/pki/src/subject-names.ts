import { lookup, lookupService } from 'node:dns/promises';
import { isIP } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

/** Names that a certificate is good for; each list sorted and without repeats. */
export type SubjectNames = { readonly dns: readonly string[]; readonly ip: readonly string[] };

/** Sorts host names and IP addresses (also in brackets) into the two kinds of names; blank entries are dropped. */
export function subjectNames(names: Iterable<string>): SubjectNames {
  const dns = new Set<string>();
  const ip = new Set<string>();
  for (const name of names) {
    const bare = name.trim().replace(/^\[(.*)\]$/, '$1');
    if (bare === '') continue;
    if (isIP(bare) !== 0) ip.add(bare);
    else dns.add(bare);
  }
  return { dns: [...dns].sort(), ip: [...ip].sort() };
}

/**
 * Names of an automatic server certificate (spec 07 section 7): `localhost`, this machine's host name and full name, the
 * loopback addresses, the address that is listened on unless it means "all", and the configured additional ones.
 */
export async function serverSubjectNames(options: {
  readonly bindAddress?: string;
  readonly additional?: readonly string[];
}): Promise<SubjectNames> {
  const bind = options.bindAddress ?? '';
  return subjectNames([
    'localhost',
    hostname(),
    await fullHostName(),
    '127.0.0.1',
    '::1',
    ...(isUnspecified(bind) ? [] : [bind]),
    ...(options.additional ?? []),
  ]);
}

const isUnspecified = (address: string): boolean => /^[0.:[\]]*$/.test(address);

/** This machine's full name, or an empty text: a machine that cannot resolve its own name still gets a certificate. */
async function fullHostName(): Promise<string> {
  const giveUp = new AbortController();
  const late = sleep(1000, '', { signal: giveUp.signal, ref: false }).catch(() => '');
  const name = lookup(hostname())
    .then(({ address }) => lookupService(address, 0))
    .then((found) => found.hostname)
    .catch(() => '');
  try {
    return await Promise.race([name, late]);
  } finally {
    giveUp.abort();
  }
}
