import { DecodeError, Reader, u32le } from '@keylime/core/codec';
import type { EventData } from './event-data.ts';
import type { EventType } from './event-type.ts';
import {
  readBlob,
  readBlob2,
  readCrtmContents,
  readCrtmVersion,
  readHandoffTables,
  readHcrtm,
  readNoAction,
  readNonHostInfo,
  readPostCode,
  requireEnd,
} from './firmware-data.ts';
import { readGpt } from './gpt.ts';
import { readImageLoad } from './image-load.ts';
import { readIpl, readTag } from './loader-data.ts';
import type { Quirk } from './quirks.ts';
import { isAsciiText, isUtf16Text, textData } from './text.ts';
import { readUefiVariable, type VariableUse } from './uefi-variable.ts';
import type { UintnSize } from './uintn.ts';

/** Where the data of a record is, and what it claims to be. */
export type DataPlace = {
  readonly log: Buffer;
  readonly start: number;
  readonly end: number;
  readonly pcr: number;
  readonly type: EventType;
  readonly uintn: UintnSize;
};

/** Reads the data of an event. @throws DecodeError, with offsets from the start of the log, if it is not what its type says. */
export function readEventData(place: DataPlace, note: (quirk: Quirk) => void): EventData {
  const { log, start, end, pcr, type } = place;
  const bytes = log.subarray(start, end);
  if (type === 'unknown') note('vendor_event_type');
  if (bytes.length === 0) return { kind: 'empty' };
  const reader = new Reader(log, start, end);
  switch (type) {
    case 'EV_NO_ACTION':
      return readNoAction(reader, bytes);
    case 'EV_SEPARATOR':
      return readSeparator(reader, note);
    case 'EV_EFI_VARIABLE_DRIVER_CONFIG':
      return readVariable(place, 'config', note);
    case 'EV_EFI_VARIABLE_BOOT':
    case 'EV_EFI_VARIABLE_BOOT2':
      return readVariable(place, 'boot', note);
    case 'EV_EFI_VARIABLE_AUTHORITY':
      return readVariable(place, 'authority', note);
    case 'EV_EFI_BOOT_SERVICES_APPLICATION':
    case 'EV_EFI_BOOT_SERVICES_DRIVER':
    case 'EV_EFI_RUNTIME_SERVICES_DRIVER':
      return withUintn(place, note, (at, size) => ({ kind: 'image_load', ...readImageLoad(at, size, note) }));
    case 'EV_EFI_GPT_EVENT':
      return withUintn(place, note, (at, size) => ({ kind: 'gpt', ...readGpt(at, size) }));
    case 'EV_EFI_HANDOFF_TABLES':
      // Some firmware writes the name of the tables only.
      return isAsciiText(bytes)
        ? textData(bytes, note)
        : withUintn(place, note, (at, size) => readHandoffTables(at, false, size));
    case 'EV_EFI_HANDOFF_TABLES2':
      return withUintn(place, note, (at, size) => readHandoffTables(at, true, size));
    case 'EV_EFI_PLATFORM_FIRMWARE_BLOB':
      return readBlob(reader);
    case 'EV_EFI_PLATFORM_FIRMWARE_BLOB2':
      return readBlob2(reader);
    case 'EV_S_CRTM_CONTENTS':
      return readCrtmContents(reader, bytes, note);
    case 'EV_S_CRTM_VERSION':
      return readCrtmVersion(reader, bytes, note);
    case 'EV_POST_CODE':
      return readPostCode(reader, bytes, note);
    case 'EV_EFI_HCRTM_EVENT':
      return readHcrtm(bytes, note);
    case 'EV_NONHOST_INFO':
      return readNonHostInfo(bytes);
    case 'EV_EVENT_TAG':
      return readTag(reader);
    case 'EV_IPL':
      return readIpl(pcr, bytes, note);
    case 'EV_ACTION':
    case 'EV_EFI_ACTION':
      return textData(bytes, note);
    case 'EV_OMIT_BOOT_DEVICE_EVENTS':
    case 'EV_PLATFORM_CONFIG_FLAGS':
    case 'EV_TABLE_OF_DEVICES':
    case 'EV_CPU_MICROCODE':
    case 'EV_COMPACT_HASH':
    case 'EV_NONHOST_CONFIG':
    case 'EV_NONHOST_CODE':
    case 'EV_IPL_PARTITION_DATA':
      return isAsciiText(bytes) || isUtf16Text(bytes) ? textData(bytes, note) : { kind: 'bytes' };
    case 'EV_PREBOOT_CERT':
    case 'EV_UNUSED':
    case 'EV_EFI_SPDM_FIRMWARE_BLOB':
    case 'EV_EFI_SPDM_FIRMWARE_CONFIG':
    case 'EV_EFI_SPDM_DEVICE_POLICY':
    case 'EV_EFI_SPDM_DEVICE_AUTHORITY':
    case 'unknown':
      return { kind: 'bytes' };
  }
}

function readSeparator(reader: Reader, note: (quirk: Quirk) => void): EventData {
  const value = u32le.read(reader);
  requireEnd(reader);
  if (value !== 0 && value !== 0xffff_ffff) note('separator_with_other_value');
  return { kind: 'separator', value };
}

const readVariable = (place: DataPlace, use: VariableUse, note: (quirk: Quirk) => void): EventData =>
  withUintn(place, note, (reader, size) => ({ kind: 'variable', ...readUefiVariable(reader, use, size, note) }));

/**
 * Reads data that has an UINTN in it. The Spec ID event tells its size but is not measured, and some firmware gets it
 * wrong: the other size is tried where the data does not fill its place exactly with the one.
 */
function withUintn(
  { log, start, end, uintn }: DataPlace,
  note: (quirk: Quirk) => void,
  read: (reader: Reader, size: UintnSize) => EventData,
): EventData {
  try {
    return read(new Reader(log, start, end), uintn);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    let data: EventData;
    try {
      data = read(new Reader(log, start, end), uintn === 8 ? 4 : 8);
    } catch (other) {
      throw other instanceof DecodeError ? error : other;
    }
    note('uintn_of_other_size');
    return data;
  }
}
