/**
 * Digests accepted for one name, lower-case hex. Nearly every name has one, kept as it is: that is one place in memory less
 * to wait for. A few are searched in order, many by hash.
 */
export type DigestList = string | readonly string[] | ReadonlySet<string>;

/** Accepted digests by the name of a file, keyring or buffer. */
export type DigestMap = ReadonlyMap<string, DigestList>;

/** Lists longer than this are kept as sets. */
const LONGEST_SEARCHED = 8;

/** The digests in the form that is fastest for their number. */
export function digestList(digests: readonly string[]): DigestList {
  const [only] = digests;
  if (digests.length === 1 && only !== undefined) return only;
  return digests.length > LONGEST_SEARCHED ? new Set(digests) : digests;
}

/** Only the hex counts: the name of the digest's algorithm is not compared. */
export function includesDigest(list: DigestList, hex: string): boolean {
  if (typeof list === 'string') return list === hex;
  return list instanceof Set ? list.has(hex) : (list as readonly string[]).includes(hex);
}

export const countDigests = (list: DigestList): number =>
  typeof list === 'string' ? 1 : list instanceof Set ? list.size : (list as readonly string[]).length;

/** The digests of a list, at most `most`. */
export const someDigests = (list: DigestList, most: number): readonly string[] =>
  typeof list === 'string' ? [list] : [...list].slice(0, most);
