import type { Brand } from '@keylime/core/brand';
import type { HandoffTable } from './firmware-data.ts';
import type { GptData } from './gpt.ts';
import type { Guid } from './guid.ts';
import type { ImageLoad } from './image-load.ts';
import type { SpecId } from './spec-id.ts';
import type { UefiVariable } from './uefi-variable.ts';

/** The data of an event, by what it is. Which kinds come with which event type is told by each. */
export type EventData =
  | { readonly kind: 'empty' }
  /** Nothing is known about it but its bytes. */
  | { readonly kind: 'bytes' }
  /** Not what its type says. */
  | { readonly kind: 'malformed'; readonly field: string; readonly problem: string }
  /** EV_NO_ACTION, first event of a crypto-agile log. */
  | ({ readonly kind: 'spec_id' } & SpecId)
  /** EV_NO_ACTION: the locality that started the TPM, 0, 3 or 4. */
  | { readonly kind: 'startup_locality'; readonly locality: number }
  /** EV_NO_ACTION: where the reference manifest of the firmware is. `signature` tells the version of the event. */
  | { readonly kind: 'sp800_155'; readonly signature: string; readonly vendorId: number; readonly manifest: Guid }
  /** EV_SEPARATOR: 0 and 0xffffffff are regular, 1 tells a firmware error. */
  | { readonly kind: 'separator'; readonly value: number }
  /** EV_ACTION, EV_EFI_ACTION, and every other type whose data is text: versions, names of tables, EV_IPL of any other PCR. */
  | { readonly kind: 'text'; readonly text: string; readonly encoding: 'ascii' | 'utf8' | 'latin1' | 'utf16le' }
  /** EV_S_CRTM_VERSION. */
  | { readonly kind: 'guid'; readonly guid: Guid }
  /** EV_EFI_VARIABLE_DRIVER_CONFIG, _BOOT, _BOOT2, _AUTHORITY. */
  | ({ readonly kind: 'variable' } & UefiVariable)
  /** EV_EFI_BOOT_SERVICES_APPLICATION, _DRIVER, EV_EFI_RUNTIME_SERVICES_DRIVER. */
  | ({ readonly kind: 'image_load' } & ImageLoad)
  /** EV_EFI_GPT_EVENT. */
  | ({ readonly kind: 'gpt' } & GptData)
  /** EV_EFI_PLATFORM_FIRMWARE_BLOB, _BLOB2, EV_S_CRTM_CONTENTS, EV_POST_CODE: memory at `base`, `length` bytes. */
  | {
      readonly kind: 'blob';
      readonly base: bigint;
      readonly length: bigint;
      /** BLOB2 only. */
      readonly description: Buffer | undefined;
    }
  /** EV_EFI_HANDOFF_TABLES, _TABLES2. */
  | {
      readonly kind: 'handoff_tables';
      readonly description: Buffer | undefined;
      readonly tables: readonly HandoffTable[];
    }
  /** EV_IPL of PCR 8: a command of GRUB, or the command line of a kernel or module that it starts. */
  | { readonly kind: 'grub'; readonly role: GrubRole; readonly text: string }
  /** EV_IPL of PCR 9: a file that GRUB read. */
  | { readonly kind: 'file'; readonly path: string }
  /** EV_IPL of PCR 11: a section of a unified kernel image, first its name measured, then its content. */
  | { readonly kind: 'section'; readonly name: string }
  /** EV_IPL of PCR 12 (8 before systemd 251): what systemd-boot or systemd-stub passes to the kernel, or describes. */
  | { readonly kind: 'load_options'; readonly text: string }
  /** EV_IPL of PCR 14: a variable of shim, MokList, MokListX, MokListTrusted and others. */
  | { readonly kind: 'shim_variable'; readonly name: string }
  /** EV_EVENT_TAG: `meaning` is that of Linux's and systemd's stubs. */
  | { readonly kind: 'tag'; readonly id: number; readonly meaning: TagMeaning; readonly data: Buffer }
  /** EV_NONHOST_INFO of Google Compute Engine: the memory encryption of the machine. */
  | { readonly kind: 'gce_nonhost_info'; readonly technology: GceTechnology };

export type GrubRole = 'command' | 'kernel_cmdline' | 'module_cmdline';

export type GceTechnology = 'none' | 'sev' | 'sev_es' | 'tdx' | 'sev_snp' | 'unknown';

export type TagMeaning =
  /** Linux's EFI stub, PCR 9. */
  | 'linux_load_options'
  | 'linux_initrd'
  /** systemd-boot, PCR 5, and systemd-stub, PCR 12. */
  | 'systemd_loader_conf'
  | 'systemd_devicetree_addon'
  | 'systemd_initrd_addon'
  | 'systemd_ucode_addon'
  | 'systemd_uki_profile'
  | 'unknown';

/** Data together with its bytes, which only coverage.ts opens. */
export type SealedData = Brand<{ readonly sealed: true }, 'SealedData'>;

export type OpenedData = { readonly bytes: Buffer; readonly data: EventData };

export const seal = (opened: OpenedData): SealedData => opened as unknown as SealedData;
export const unseal = (sealed: SealedData): OpenedData => sealed as unknown as OpenedData;
