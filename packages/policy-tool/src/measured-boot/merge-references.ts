import type { DigestJson, StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { ToolError } from '../tool-error.ts';

/**
 * One reference state for the boots of all: what may differ becomes alternatives, and of revocations (dbx), which a boot has
 * to have, those stay that all have. Members that only `first` has stay as they are.
 * @throws ToolError `log_unsuitable` if one has Secure Boot on and another off
 */
export function mergeReferences(first: StrictReferenceJson, second: StrictReferenceJson): StrictReferenceJson {
  if ((first.has_secureboot ?? true) !== (second.has_secureboot ?? true)) {
    throw new ToolError(
      'log_unsuitable',
      'Secure Boot is on in one boot and off in another: make a reference state of each',
    );
  }
  const digests = mergeDigests(first.digests ?? {}, second.digests ?? {});
  const unlisted = union(first.unlisted ?? [], second.unlisted ?? []);
  const hasVendorDb = first.vendor_db !== undefined || second.vendor_db !== undefined;
  return {
    ...first,
    scrtm_and_bios: union(first.scrtm_and_bios, second.scrtm_and_bios),
    pk: union(first.pk, second.pk),
    kek: union(first.kek, second.kek),
    db: union(first.db, second.db),
    dbx: intersection(first.dbx, second.dbx),
    ...(hasVendorDb && { vendor_db: union(first.vendor_db ?? [], second.vendor_db ?? []) }),
    mokdig: union(first.mokdig, second.mokdig),
    mokxdig: union(first.mokxdig, second.mokxdig),
    kernels: union(first.kernels, second.kernels),
    ...(Object.keys(digests).length > 0 && { digests }),
    ...(unlisted.length > 0 && { unlisted }),
  };
}

function union<T>(first: readonly T[], second: readonly T[]): readonly T[] {
  const seen = new Set<string>();
  return [...first, ...second].filter((each) => {
    const key = canonical(each);
    if (seen.has(key)) return false;
    seen.add(key);
    return true;
  });
}

function intersection<T>(first: readonly T[], second: readonly T[]): readonly T[] {
  const kept = new Set(second.map(canonical));
  return first.filter((each) => kept.has(canonical(each)));
}

/** The same text for values that differ in the order of their members only. */
const canonical = (value: unknown): string =>
  JSON.stringify(value, (_, member: unknown) =>
    typeof member === 'object' && member !== null && !Array.isArray(member)
      ? Object.fromEntries(Object.entries(member).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : member,
  );

type DigestsByPcr = { readonly [pcr: string]: readonly DigestJson[] };

function mergeDigests(first: DigestsByPcr, second: DigestsByPcr): DigestsByPcr {
  const pcrs = [...new Set([...Object.keys(first), ...Object.keys(second)])];
  return Object.fromEntries(pcrs.map((pcr) => [pcr, union(first[pcr] ?? [], second[pcr] ?? [])]));
}
