import { digestSize, type HashAlgorithm, isHashAlgorithm } from '@keylime/core/digest';
import type { SignatureJson } from './reference-json.ts';
import type { ReferencePlace } from './reference-place.ts';
import { compilePattern, type TextPattern } from './text-pattern.ts';

/** One thing that is measured: its digest in each bank that the reference state knows, lower-case hex. */
export type Digests = ReadonlyMap<HashAlgorithm, string>;

/** Entries of signature databases, each as `signatureKey` has it. */
export type SignatureSet = ReadonlySet<string>;

/** Owner and data, by which reference states tell entries apart. */
export const signatureKey = (owner: string, data: Uint8Array): string =>
  `${owner}:0x${Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString('hex')}`;

/** The digests of `list` in `bank`; what has none there is never found. */
export const inBank = (list: readonly Digests[], bank: HashAlgorithm): ReadonlySet<string> =>
  new Set(list.flatMap((digests) => digests.get(bank) ?? []));

const GUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const HEX_BYTES = /^0x(?:[0-9a-f]{2})+$/;

/** Reads a `DigestJson`. */
export function readDigests(place: ReferencePlace): Digests {
  const digests = new Map<HashAlgorithm, string>();
  if (!place.requireObject()) return digests;
  for (const [name, member] of place.members()) {
    if (isHashAlgorithm(name)) digests.set(name, readDigest(member, name));
    else member.refuse('no such hash; digests are of sha256, sha384, sha512, sha1 or sm3_256');
  }
  if (place.members().length === 0) place.refuse('no digest: write it as {"sha256": "0x<64 hex digits>"}');
  return digests;
}

/** Reads a digest of `algorithm`, `0x` and lower-case hex. */
export function readDigest(place: ReferencePlace, algorithm: HashAlgorithm): string {
  const digits = 2 * digestSize(algorithm);
  const pattern = new RegExp(`^0x[0-9a-f]{${digits}}$`);
  return place.matching(pattern, `a digest of ${algorithm} (0x and ${digits} lower-case hex digits)`).slice(2);
}

export const readDigestList = (place: ReferencePlace): readonly Digests[] => place.items().map(readDigests);

/** Reads a list of `SignatureJson`; absent where `optional` is nothing in it. */
export function readSignatures(place: ReferencePlace, optional = false): SignatureSet {
  if (optional && !place.isThere) return new Set();
  return new Set(place.items().map(readSignature));
}

function readSignature(place: ReferencePlace): string {
  if (!place.requireObject()) return '';
  const owner = readOwner(place.member('SignatureOwner' satisfies keyof SignatureJson));
  return `${owner}:${readSignatureData(place.member('SignatureData' satisfies keyof SignatureJson))}`;
}

export const readOwner = (place: ReferencePlace): string =>
  place.matching(GUID, 'a GUID in lower case (as 77fa9abd-0359-4d32-bd60-28f4e78f784b)');

/** `0x` and hex, as it is there. */
export const readSignatureData = (place: ReferencePlace): string =>
  place.matching(HEX_BYTES, 'bytes (0x and two lower-case hex digits for each)');

/** Digests by PCR, as `{"9": [{"sha256": "0x..."}]}`; absent is none. */
export function readDigestsByPcr(
  place: ReferencePlace,
  pcrs: readonly number[],
): ReadonlyMap<number, readonly Digests[]> {
  const byPcr = new Map<number, readonly Digests[]>();
  if (!place.isThere || !place.requireObject()) return byPcr;
  for (const [name, member] of place.members()) {
    const pcr = pcrs.find((each) => String(each) === name);
    if (pcr === undefined) member.refuse(`must be one of the PCRs ${pcrs.join(', ')}`);
    else byPcr.set(pcr, readDigestList(member));
  }
  return byPcr;
}

/** All hash algorithms that `lists` have digests of. */
export const banksOf = (lists: readonly (readonly Digests[])[]): ReadonlySet<HashAlgorithm> =>
  new Set(lists.flat().flatMap((digests) => [...digests.keys()]));

/** Reads a Python regular expression. */
export function readPattern(place: ReferencePlace): TextPattern | undefined {
  const compiled = compilePattern(place.text());
  if (compiled.ok) return compiled.value;
  place.refuse(compiled.problem);
  return undefined;
}
