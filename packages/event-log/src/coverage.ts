import { digestHex, type HashAlgorithm } from '@keylime/core/digest';
import type { BootEvent } from './event.ts';
import { type EventData, type OpenedData, type SealedData, unseal } from './event-data.ts';
import type { EventType } from './event-type.ts';
import { GRUB_FILE_PCR, GRUB_PCR, LOAD_OPTIONS_PCR, SECTION_PCR, SHIM_PCR, splitGrubText } from './loader-data.ts';
import type { Quirk } from './quirks.ts';

/**
 * What of an event's data its digest covers. A PCR vouches for digests and their order only; data is as good as the digest
 * that was recomputed from it. The type of an event and the words around what is covered are never vouched for.
 */
export type Coverage =
  /** All of it. */
  | 'whole'
  /** The value of a variable, not its name. */
  | 'value'
  /** The text behind GRUB's prefix, not the prefix; the name of a section of a unified kernel image. */
  | 'text'
  /** Nothing: by its type the digest is of something else, a file, an image, a table. The data is a hint. */
  | 'none'
  /** Nothing, although by its type the digest should be of the data: someone wrote other data, or the firmware is wrong. */
  | 'mismatch';

/** An event as one bank of the TPM was extended with it. */
export type MeasuredEvent = Omit<BootEvent, 'digests'> & {
  readonly bank: HashAlgorithm;
  /** Lower-case hex, of `bank`. */
  readonly digest: string;
  readonly coverage: Coverage;
};

/** Data that the event's digest covers. */
export type CoveredData =
  | EventData
  /** With coverage `text`: what GRUB ran or passed on. Which of the two is a hint. */
  | { readonly kind: 'grub_text'; readonly text: string }
  /** With coverage `value`: see `decodeLoadOption` and `decodeBootOrder`. */
  | { readonly kind: 'variable_value'; readonly data: Buffer };

/** What the log says of an event as `bank` knows it; `undefined` if it did not extend that bank (EV_NO_ACTION never does). */
export function measuredIn(event: BootEvent, bank: HashAlgorithm): MeasuredEvent | undefined {
  const digest = event.digests.get(bank);
  if (digest === undefined || event.type === 'EV_NO_ACTION') return undefined;
  const { coverage, quirk } = findCover(event, (bytes) => digestHex(bank, bytes) === digest);
  const quirks = quirk === undefined ? event.quirks : [...event.quirks, quirk];
  const { index, offset, pcr, typeId, type, sealed } = event;
  return { index, offset, pcr, typeId, type, bank, digest, coverage, quirks, sealed };
}

/** The data that the event's digest covers; `undefined` where it covers none. */
export function coveredData(event: MeasuredEvent): CoveredData | undefined {
  const { data } = unseal(event.sealed);
  switch (event.coverage) {
    case 'whole':
      return data;
    case 'value':
      return data.kind === 'variable' ? { kind: 'variable_value', data: data.data } : undefined;
    case 'text':
      return data.kind === 'grub' ? { kind: 'grub_text', text: data.text } : data;
    case 'none':
    case 'mismatch':
      return undefined;
  }
}

/** All data of an event, covered or not. Whoever opens this door believes what anyone can have written. */
export const hintData = (event: { readonly sealed: SealedData }): EventData => unseal(event.sealed).data;

/** The bytes of all data of an event, covered or not. A view of the log. */
export const hintBytes = (event: { readonly sealed: SealedData }): Buffer => unseal(event.sealed).bytes;

type Cover = { readonly coverage: Coverage; readonly quirk?: Quirk };

const WHOLE: Cover = { coverage: 'whole' };
const TEXT: Cover = { coverage: 'text' };
const NONE: Cover = { coverage: 'none' };
const MISMATCH: Cover = { coverage: 'mismatch' };

/** Whether the event's digest is that of `bytes`. */
type IsDigestOf = (bytes: Uint8Array) => boolean;

const NUL = Buffer.of(0);

/** How the digest of each type comes about (TCG PFP 1.06, 10.4.1, and what loaders do: 04 section 6 of the reference). */
function findCover(event: BootEvent, isDigestOf: IsDigestOf): Cover {
  const opened = unseal(event.sealed);
  const { bytes, data } = opened;
  switch (event.type) {
    case 'EV_SEPARATOR':
    case 'EV_ACTION':
    case 'EV_EFI_ACTION':
    case 'EV_EFI_GPT_EVENT':
    case 'EV_OMIT_BOOT_DEVICE_EVENTS':
      return isDigestOf(bytes) ? WHOLE : MISMATCH;
    case 'EV_S_CRTM_VERSION':
      return isDigestOf(bytes) ? WHOLE : { coverage: 'mismatch', quirk: 'crtm_version_digest_mismatch' };
    case 'EV_EFI_VARIABLE_DRIVER_CONFIG':
      return variableCover(opened, isDigestOf, 'config_variable_digest_of_value');
    case 'EV_EFI_VARIABLE_BOOT':
    case 'EV_EFI_VARIABLE_BOOT2':
      return variableCover(opened, isDigestOf, 'boot_variable_digest_of_value');
    case 'EV_EFI_VARIABLE_AUTHORITY':
      if (isDigestOf(bytes)) return WHOLE;
      // The byte that is left out is not one of the certificate.
      return event.quirks.includes('shim_authority_without_owner') && isDigestOf(bytes.subarray(0, -1))
        ? { coverage: 'whole', quirk: 'shim_authority_digest_without_last_byte' }
        : MISMATCH;
    case 'EV_IPL':
      return findIplCover(event.pcr, opened, isDigestOf);
    case 'EV_EVENT_TAG':
      // Those of Linux's and systemd's stubs describe what was measured; Windows measures the event.
      if (data.kind === 'tag' && data.meaning !== 'unknown') return NONE;
      return isDigestOf(bytes) ? WHOLE : MISMATCH;
    case 'EV_COMPACT_HASH':
    case 'EV_NONHOST_INFO':
    case 'EV_NONHOST_CONFIG':
    case 'EV_PLATFORM_CONFIG_FLAGS':
    case 'unknown':
      return isDigestOf(bytes) ? WHOLE : NONE;
    default:
      event.type satisfies ExternallyMeasured;
      return NONE;
  }
}

/** Types whose digest is of something that is not in the log. That their data hashes to it would be an accident, or a trick. */
type ExternallyMeasured = Extract<
  EventType,
  | 'EV_NO_ACTION'
  | 'EV_PREBOOT_CERT'
  | 'EV_POST_CODE'
  | 'EV_UNUSED'
  | 'EV_S_CRTM_CONTENTS'
  | 'EV_CPU_MICROCODE'
  | 'EV_TABLE_OF_DEVICES'
  | 'EV_IPL_PARTITION_DATA'
  | 'EV_NONHOST_CODE'
  | 'EV_EFI_BOOT_SERVICES_APPLICATION'
  | 'EV_EFI_BOOT_SERVICES_DRIVER'
  | 'EV_EFI_RUNTIME_SERVICES_DRIVER'
  | 'EV_EFI_PLATFORM_FIRMWARE_BLOB'
  | 'EV_EFI_PLATFORM_FIRMWARE_BLOB2'
  | 'EV_EFI_HANDOFF_TABLES'
  | 'EV_EFI_HANDOFF_TABLES2'
  | 'EV_EFI_HCRTM_EVENT'
  | 'EV_EFI_SPDM_FIRMWARE_BLOB'
  | 'EV_EFI_SPDM_FIRMWARE_CONFIG'
  | 'EV_EFI_SPDM_DEVICE_POLICY'
  | 'EV_EFI_SPDM_DEVICE_AUTHORITY'
>;

function variableCover({ bytes, data }: OpenedData, isDigestOf: IsDigestOf, quirk: Quirk): Cover {
  if (isDigestOf(bytes)) return WHOLE;
  return data.kind === 'variable' && isDigestOf(data.data) ? { coverage: 'value', quirk } : MISMATCH;
}

function findIplCover(pcr: number, { bytes, data }: OpenedData, isDigestOf: IsDigestOf): Cover {
  switch (pcr) {
    case GRUB_PCR: {
      // Never the whole of GRUB's: a command that looks like a command line would pass for one.
      const grub = splitGrubText(bytes);
      if (grub !== undefined) {
        if (isDigestOf(grub.text)) return TEXT;
        const withNul = isDigestOf(Buffer.concat([grub.text, NUL]));
        return withNul ? { coverage: 'text', quirk: 'grub_digest_with_nul' } : MISMATCH;
      }
      if (isDigestOf(bytes)) return WHOLE;
      return isDigestOf(Buffer.concat([bytes, NUL]))
        ? { coverage: 'whole', quirk: 'systemd_boot_digest_with_nul' }
        : MISMATCH;
    }
    case GRUB_FILE_PCR:
    case SHIM_PCR:
      return NONE;
    case SECTION_PCR:
      // The name is logged in UTF-16 and measured in ASCII; the event after it is of the section's content.
      return data.kind === 'section' && isDigestOf(Buffer.from(`${data.name}\0`, 'latin1')) ? TEXT : NONE;
    case LOAD_OPTIONS_PCR:
      // systemd-stub also measures credentials here, under names that the digest does not cover.
      return isDigestOf(bytes) ? WHOLE : NONE;
    default:
      return isDigestOf(bytes) ? WHOLE : NONE;
  }
}
