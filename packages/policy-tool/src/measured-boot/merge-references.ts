import type { DigestJson, StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { lowerSbatLevel, parseSbatLevel, sbatLevelText } from '@keylime/measured-boot/sbat-level';
import { ToolError } from '../tool-error.ts';

/**
 * One reference state for the boots of all: what may differ becomes alternatives, and of what a boot has to have, revocations
 * (dbx) and SbatLevel, that stays which all have. Other members that only `first` has stay as they are. `tell` hears what is
 * demanded no more.
 * @throws ToolError `log_unsuitable` if one has Secure Boot on and another off
 */
export function mergeReferences(
  first: StrictReferenceJson,
  second: StrictReferenceJson,
  tell: (text: string) => void,
): StrictReferenceJson {
  if ((first.has_secureboot ?? true) !== (second.has_secureboot ?? true)) {
    throw new ToolError(
      'log_unsuitable',
      'Secure Boot is on in one boot and off in another: make a reference state of each',
    );
  }
  const digests = mergeDigests(first.digests ?? {}, second.digests ?? {});
  const unlisted = union(first.unlisted ?? [], second.unlisted ?? []);
  const hasVendorDb = first.vendor_db !== undefined || second.vendor_db !== undefined;
  const { authorities: _, sbat_level: __, ...others } = first;
  const dbx = intersection(first.dbx, second.dbx);
  const dropped = union(first.dbx, second.dbx).length - dbx.length;
  if (dropped > 0) {
    tell(`dbx: ${dropped} entries that only some of the boots have are not demanded; ${dbx.length} that all have are`);
  }
  return {
    ...others,
    scrtm_and_bios: union(first.scrtm_and_bios, second.scrtm_and_bios),
    pk: union(first.pk, second.pk),
    kek: union(first.kek, second.kek),
    db: union(first.db, second.db),
    dbx,
    ...(hasVendorDb && { vendor_db: union(first.vendor_db ?? [], second.vendor_db ?? []) }),
    mokdig: union(first.mokdig, second.mokdig),
    mokxdig: union(first.mokxdig, second.mokxdig),
    kernels: union(first.kernels, second.kernels),
    ...mergeAuthorities(first, second, tell),
    ...mergeSbatLevels(first, second, tell),
    ...(Object.keys(digests).length > 0 && { digests }),
    ...(unlisted.length > 0 && { unlisted }),
  };
}

/** Who says nothing of authorities accepts those of the databases, and more cannot be demanded of his boots. */
function mergeAuthorities(
  { authorities: first }: StrictReferenceJson,
  { authorities: second }: StrictReferenceJson,
  tell: (text: string) => void,
): Pick<StrictReferenceJson, 'authorities'> {
  if (first !== undefined && second !== undefined) return { authorities: union(first, second) };
  if (first !== undefined || second !== undefined) {
    tell(
      'authorities: left open, for not all of what is merged says who may sign images; db, vendor_db and shim decide',
    );
  }
  return {};
}

function mergeSbatLevels(
  { sbat_level: first }: StrictReferenceJson,
  { sbat_level: second }: StrictReferenceJson,
  tell: (text: string) => void,
): Pick<StrictReferenceJson, 'sbat_level'> {
  if (first === second) return first === undefined ? {} : { sbat_level: first };
  const [one, other] = [parseSbatLevel(first ?? ''), parseSbatLevel(second ?? '')];
  if (one === undefined || other === undefined) {
    tell('sbat_level: left open, for not all of what is merged has one; older shims pass');
    return {};
  }
  const sbat_level = sbatLevelText(lowerSbatLevel(one, other));
  tell(`sbat_level: the lower one is demanded, ${sbat_level.trimEnd().replaceAll('\n', ' ')}`);
  return { sbat_level };
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
