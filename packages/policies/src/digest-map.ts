/** Digests accepted for one name, lower-case hex. Few are searched in order, many by hash. */
export type DigestList = readonly string[] | ReadonlySet<string>;

/** Accepted digests by the name of a file, keyring or buffer. */
export type DigestMap = ReadonlyMap<string, DigestList>;

/** Lists longer than this are kept as sets. */
const LONGEST_SEARCHED = 8;

export const digestList = (digests: readonly string[]): DigestList =>
  digests.length > LONGEST_SEARCHED ? new Set(digests) : digests;

/** Only the hex counts: the name of the digest's algorithm is not compared. */
export const includesDigest = (list: DigestList, hex: string): boolean =>
  list instanceof Set ? list.has(hex) : (list as readonly string[]).includes(hex);
