import type { HashAlgorithm } from '@keylime/core/digest';
import type { NonEmpty } from '@keylime/core/non-empty';
import type { Parsed } from '@keylime/core/parsed';
import { VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { ReferenceProblem } from './policy.ts';
import {
  AUTHORITY_VARIABLES,
  type AuthorityJson,
  type AuthorityVariable,
  type DatabaseName,
  type DatabaseRule,
  EXAMPLE_MEMBERS,
  type StrictReferenceJson,
  UNLISTED_KINDS,
  type UnlistedKind,
} from './reference-json.ts';
import { type ReferencePlace, readReference } from './reference-place.ts';
import {
  banksOf,
  type Digests,
  readDigestList,
  readDigests,
  readDigestsByPcr,
  readOwner,
  readPattern,
  readSignatureData,
  readSignatures,
  type SignatureSet,
} from './reference-values.ts';
import { parseSbatLevel, type SbatLevel } from './sbat-level.ts';
import { readKernel, type StrictKernel } from './strict-kernel.ts';
import type { TextPattern } from './text-pattern.ts';

/** What `strict` judges: firmware, boot loaders, shim, and unified kernel images. 10 is IMA's, 15 the operating system's. */
export const STRICT_PCRS: readonly number[] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14];

/** A reference state of `strict`, decoded. */
export type StrictReference = {
  readonly secureBoot: boolean;
  readonly firmware: readonly StrictFirmware[];
  readonly databases: { readonly [Name in DatabaseName]: StrictDatabase };
  readonly vendorDb: SignatureSet;
  readonly mokList: readonly Digests[];
  readonly mokListX: readonly Digests[];
  readonly kernels: readonly StrictKernel[];
  readonly digests: ReadonlyMap<number, readonly Digests[]>;
  /** `authorityKey` of each; `undefined` where any authority will do. */
  readonly authorities: ReadonlySet<string> | undefined;
  readonly sbatLevel: SbatLevel | undefined;
  readonly grubCommands: readonly TextPattern[];
  readonly unlisted: ReadonlySet<UnlistedKind>;
  readonly dmaProtection: 'required' | 'optional';
  readonly exitBootServices: 'required' | 'optional';
  /** The banks that it has digests of firmware or images for. */
  readonly banks: ReadonlySet<HashAlgorithm>;
};

export type StrictFirmware = { readonly scrtm: Digests | undefined; readonly blobs: readonly Digests[] };
export type StrictDatabase = { readonly signatures: SignatureSet; readonly rule: DatabaseRule };

const MEMBERS: readonly (keyof StrictReferenceJson)[] = [
  ...EXAMPLE_MEMBERS,
  'database_rules',
  'authorities',
  'sbat_level',
  'grub_commands',
  'unlisted',
  'dma_protection',
  'exit_boot_services',
];

const DATABASE_NAMES: readonly DatabaseName[] = ['pk', 'kek', 'db', 'dbx'];
const AUTHORITY_OWNERS: { readonly [Name in AuthorityVariable]: string } = {
  db: VARIABLE_GUIDS.imageSecurityDatabase,
  vendor_db: VARIABLE_GUIDS.imageSecurityDatabase,
  Shim: VARIABLE_GUIDS.shimLock,
  MokListRT: VARIABLE_GUIDS.shimLock,
};
const REQUIREMENTS = ['required', 'optional'] as const;

/** Decodes a `StrictReferenceJson`. Members that it does not have are refused, and so is whatever no boot could pass. */
export const decodeStrictReference = (json: unknown): Parsed<StrictReference, NonEmpty<ReferenceProblem>> =>
  readReference(json, readStrictReference);

function readStrictReference(root: ReferencePlace): StrictReference {
  root.onlyMembers(MEMBERS);
  const secureBoot = root.member('has_secureboot').boolean(true);
  const authorities = readAuthorities(root.member('authorities'));
  const sbatLevel = readSbatLevel(root.member('sbat_level'));
  const kernels = root
    .member('kernels')
    .alternatives()
    .map((place) => {
      const kernel = readKernel(place);
      if (kernel.images.includes('signed') && (!secureBoot || (authorities?.size ?? 0) === 0)) {
        place.refuse('an image that is `signed` needs Secure Boot, and `authorities` that say by whom');
      }
      // Whatever is signed may start first, measure nothing, and let anybody extend a SbatLevel afterwards.
      if (kernel.images[0] === 'signed' && sbatLevel !== undefined) {
        place.refuse(
          'the first image, shim, must be told by its digest: a SbatLevel is as good as the shim that measures it',
        );
      }
      return kernel;
    });
  const firmware = root.member('scrtm_and_bios').alternatives().map(readFirmware);
  return {
    secureBoot,
    firmware,
    databases: readDatabases(root),
    vendorDb: readSignatures(root.member('vendor_db'), true),
    mokList: readDigestList(root.member('mokdig')),
    mokListX: readDigestList(root.member('mokxdig')),
    kernels,
    digests: readDigestsByPcr(root.member('digests'), STRICT_PCRS),
    authorities,
    sbatLevel,
    grubCommands: readPatterns(root.member('grub_commands')),
    unlisted: readUnlisted(root.member('unlisted')),
    dmaProtection: root.member('dma_protection').oneOf(REQUIREMENTS, 'required'),
    exitBootServices: root.member('exit_boot_services').oneOf(REQUIREMENTS, 'required'),
    banks: banksOf([
      ...firmware.map(({ scrtm, blobs }) => [...blobs, ...(scrtm === undefined ? [] : [scrtm])]),
      ...kernels.map(({ images }) => images.filter((image) => image !== 'signed')),
    ]),
  };
}

function readFirmware(place: ReferencePlace): StrictFirmware {
  const scrtm = place.member('scrtm');
  if (place.requireObject()) place.onlyMembers(['scrtm', 'platform_firmware']);
  return {
    scrtm: scrtm.isThere ? readDigests(scrtm) : undefined,
    blobs: readDigestList(place.member('platform_firmware')),
  };
}

function readDatabases(root: ReferencePlace): StrictReference['databases'] {
  const rules = root.member('database_rules');
  if (rules.isThere && rules.requireObject()) rules.onlyMembers(DATABASE_NAMES);
  const read = (name: DatabaseName): StrictDatabase => ({
    signatures: readSignatures(root.member(name)),
    rule: rules.member(name).oneOf(['exact', 'subset', 'superset'], name === 'dbx' ? 'superset' : 'subset'),
  });
  return { pk: read('pk'), kek: read('kek'), db: read('db'), dbx: read('dbx') };
}

/** Tells an authority from others: its variable, who put it there, if that is known, and the certificate or hash. */
export const authorityKey = (variable: string, guid: string, owner: string | undefined, data: string): string =>
  [variable, guid, owner ?? '', data].join(' ');

function readAuthorities(place: ReferencePlace): ReadonlySet<string> | undefined {
  if (!place.isThere) return undefined;
  return new Set(place.items().map(readAuthority));
}

function readAuthority(place: ReferencePlace): string {
  if (!place.requireObject()) return '';
  const names = ['variable', 'SignatureOwner', 'SignatureData'] as const satisfies readonly (keyof AuthorityJson)[];
  place.onlyMembers(names);
  const variable = place.member('variable');
  const known = AUTHORITY_VARIABLES.find((name) => name === variable.json);
  if (known === undefined) variable.refuse(`must be one of ${AUTHORITY_VARIABLES.join(', ')}`);
  const owner = place.member('SignatureOwner');
  return authorityKey(
    known ?? '',
    known === undefined ? '' : AUTHORITY_OWNERS[known],
    owner.isThere ? readOwner(owner) : undefined,
    readSignatureData(place.member('SignatureData')),
  );
}

function readSbatLevel(place: ReferencePlace): SbatLevel | undefined {
  if (!place.isThere) return undefined;
  const level = parseSbatLevel(place.text());
  if (level === undefined) place.refuse('must be lines as in the log: sbat,1,2025021800 and then component,generation');
  return level;
}

function readPatterns(place: ReferencePlace): readonly TextPattern[] {
  if (!place.isThere) return [];
  return place.items().flatMap((item) => readPattern(item) ?? []);
}

function readUnlisted(place: ReferencePlace): ReadonlySet<UnlistedKind> {
  const kinds = new Set<UnlistedKind>();
  if (!place.isThere) return kinds;
  for (const item of place.items()) {
    const kind = UNLISTED_KINDS.find((each) => each === item.json);
    if (kind === undefined) item.refuse(`must be one of ${UNLISTED_KINDS.join(', ')}`);
    else kinds.add(kind);
  }
  return kinds;
}
