import type { HashAlgorithm } from '@keylime/core/digest';
import { coveredData, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { UefiVariable } from '@keylime/event-log/uefi-variable';
import {
  AUTHORITY_VARIABLES,
  type AuthorityJson,
  type FirmwareJson,
  type SignatureJson,
  type StrictReferenceJson,
  type UnlistedKind,
} from '@keylime/measured-boot/reference-json';
import { parseSbatLevel } from '@keylime/measured-boot/sbat-level';
import { ToolError } from '../tool-error.ts';
import { kernelOf } from './reference-kernel.ts';
import { missingEvent, type ReferenceSource } from './reference-source.ts';

/** What to make of a log. */
export type ReferenceOptions = {
  /** Banks that the reference state has digests of, at least one. */
  readonly banks: readonly HashAlgorithm[];
  /** That Secure Boot is off is as it should be. */
  readonly withoutSecureBoot: boolean;
  readonly unlisted: readonly UnlistedKind[];
  /** What a boot need not have. */
  readonly optional: readonly OptionalRequirement[];
};

export const OPTIONAL_REQUIREMENTS = [
  'dma_protection',
  'exit_boot_services',
] as const satisfies readonly (keyof StrictReferenceJson)[];
export type OptionalRequirement = (typeof OPTIONAL_REQUIREMENTS)[number];

/**
 * The reference state of a machine that is to boot as the log tells, but for events that no member of it but `digests` is
 * about. Data counts where its digest covers it.
 * @throws ToolError `log_unsuitable`, which names the event that is missing and what to do
 */
export function referenceOf(source: ReferenceSource, options: ReferenceOptions): StrictReferenceJson {
  const { events, digestOf } = source;
  const variables = events.flatMap((event) => variableOf(event) ?? []);
  const find = (name: string, guid: string) => variables.find((each) => each.name === name && each.guid === guid);
  const secureBoot = find('SecureBoot', VARIABLE_GUIDS.global);
  if (secureBoot?.value.kind !== 'switch') {
    throw missingEvent(coveredVariable('SecureBoot'), 'whether Secure Boot is on cannot be told');
  }
  const isOn = secureBoot.value.on;
  if (!isOn && !options.withoutSecureBoot) {
    throw new ToolError(
      'log_unsuitable',
      'Secure Boot is off in the log: switch it on, or say with --without-secureboot that it may be off',
    );
  }
  const database = (name: string, guid: string): readonly SignatureJson[] => {
    const found = find(name, guid);
    if (found?.value.kind !== 'signature_database') {
      throw missingEvent(coveredVariable(name), 'which keys the machine has cannot be told');
    }
    return found.value.lists.flatMap(({ signatures }) =>
      signatures.map(({ owner, data }) => signatureJson(owner, data)),
    );
  };
  const { global, imageSecurityDatabase } = VARIABLE_GUIDS;
  return {
    has_secureboot: isOn,
    scrtm_and_bios: [firmwareOf(source)],
    pk: database('PK', global),
    kek: database('KEK', global),
    db: database('db', imageSecurityDatabase),
    dbx: database('dbx', imageSecurityDatabase),
    vendor_db: variables.flatMap(({ name, value }) =>
      name === 'vendor_db' && value.kind === 'authority' && value.owner !== undefined
        ? [signatureJson(value.owner, value.data)]
        : [],
    ),
    mokdig: events.filter((event) => isShimVariable(event, 'MokList')).map(digestOf),
    mokxdig: events.filter((event) => isShimVariable(event, 'MokListX')).map(digestOf),
    kernels: [kernelOf(source, isOn)],
    ...signersOf(source),
    ...(options.unlisted.length > 0 && { unlisted: options.unlisted }),
    ...Object.fromEntries(options.optional.map((name) => [name, 'optional'])),
  };
}

const coveredVariable = (name: string): string =>
  `EV_EFI_VARIABLE_DRIVER_CONFIG of ${name} in PCR 7 that its digest covers`;

/** By whom the images were let start, and the SbatLevel that shim demanded. */
function signersOf({ events }: ReferenceSource): Pick<StrictReferenceJson, 'authorities' | 'sbat_level'> {
  // What firmware lets in before its separator is known by its digest.
  const separator = events.findIndex(({ pcr, type }) => pcr === 7 && type === 'EV_SEPARATOR');
  const behind = separator === -1 ? [] : events.slice(separator + 1);
  const measured = behind.flatMap((event) => variableOf(event) ?? []);
  const authorities = measured.flatMap(({ name, value }): AuthorityJson[] => {
    const variable = AUTHORITY_VARIABLES.find((known) => known === name);
    if (value.kind !== 'authority' || variable === undefined) return [];
    const { owner, data } = value;
    return [
      { variable, ...(owner !== undefined && { SignatureOwner: owner }), SignatureData: `0x${data.toString('hex')}` },
    ];
  });
  const [level] = measured.flatMap(({ name, guid, value }) =>
    name === 'SbatLevel' && guid === VARIABLE_GUIDS.shimLock && value.kind === 'text' ? [value.text] : [],
  );
  return {
    ...(authorities.length > 0 && { authorities }),
    ...(level !== undefined && parseSbatLevel(level) !== undefined && { sbat_level: level }),
  };
}

/** A variable of PCR 7 that the digest covers, name and value. */
function variableOf(event: MeasuredEvent): UefiVariable | undefined {
  const data = event.pcr === 7 ? coveredData(event) : undefined;
  return data?.kind === 'variable' ? data : undefined;
}

const signatureJson = (owner: string, data: Buffer): SignatureJson => ({
  SignatureOwner: owner,
  SignatureData: `0x${data.toString('hex')}`,
});

function isShimVariable(event: MeasuredEvent, name: string): boolean {
  const hint = hintData(event);
  return hint.kind === 'shim_variable' && hint.name === name;
}

const FIRMWARE_PCR = 0;
const BLOBS: readonly string[] = ['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'];

function firmwareOf({ events, digestOf }: ReferenceSource): FirmwareJson {
  const ofFirmware = events.filter(({ pcr }) => pcr === FIRMWARE_PCR);
  const version = ofFirmware.find(({ type }) => type === 'EV_S_CRTM_VERSION');
  return {
    ...(version !== undefined && { scrtm: digestOf(version) }),
    platform_firmware: ofFirmware.filter(({ type }) => BLOBS.includes(type)).map(digestOf),
  };
}
