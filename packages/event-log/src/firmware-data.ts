import { countedBytes, type Decoded, Reader, struct, u8, u32le, u64le } from '@keylime/core/codec';
import type { EventData, GceTechnology } from './event-data.ts';
import { type Guid, guid } from './guid.ts';
import type { Quirk } from './quirks.ts';
import { isAsciiText, isUtf16Text, textData } from './text.ts';
import { readUintn, type UintnSize } from './uintn.ts';

/** UEFI_PLATFORM_FIRMWARE_BLOB (TCG PFP 1.06, 10.2.1): memory that was measured. The digest is of its content. */
const FirmwareBlob = struct({ base: u64le, length: u64le });

/** UEFI_PLATFORM_FIRMWARE_BLOB2 (10.2.2). */
const FirmwareBlob2 = struct({ description: countedBytes(u8, 255), base: u64le, length: u64le });

/** EFI_CONFIGURATION_TABLE (UEFI 2.10, 4.6). `address` in memory, as measured. */
export type HandoffTable = { readonly guid: Guid; readonly address: bigint };

export function readBlob(reader: Reader): EventData {
  const blob = FirmwareBlob.read(reader);
  requireEnd(reader);
  return { kind: 'blob', ...blob, description: undefined };
}

export function readBlob2(reader: Reader): EventData {
  const blob = FirmwareBlob2.read(reader);
  requireEnd(reader);
  return { kind: 'blob', ...blob };
}

/** EV_POST_CODE: address and length of code in 16 bytes, or its name. */
export const readPostCode = (reader: Reader, bytes: Buffer, note: (quirk: Quirk) => void): EventData =>
  bytes.length === 16 && !isAsciiText(bytes) ? readBlob(reader) : textData(bytes, note);

/** EV_S_CRTM_CONTENTS: address and length, or text of 16 bytes and more. */
export function readCrtmContents(reader: Reader, bytes: Buffer, note: (quirk: Quirk) => void): EventData {
  if (!isAsciiText(bytes)) return readBlob(reader);
  note('crtm_contents_text');
  return textData(bytes, note);
}

/** EV_S_CRTM_VERSION: UTF-16LE or ASCII text, or a GUID. */
export function readCrtmVersion(reader: Reader, bytes: Buffer, note: (quirk: Quirk) => void): EventData {
  if (bytes.length === 16 && !isUtf16Text(bytes)) return { kind: 'guid', guid: guid.read(reader) };
  return isUtf16Text(bytes) || isAsciiText(bytes) ? textData(bytes, note) : { kind: 'bytes' };
}

/** UEFI_HANDOFF_TABLE_POINTERS (10.2.4), with a description before them in EV_EFI_HANDOFF_TABLES2. */
export function readHandoffTables(reader: Reader, described: boolean, uintn: UintnSize): EventData {
  const description = described ? countedBytes(u8, 255).read(reader) : undefined;
  const count = readUintn(reader, uintn);
  const entrySize = 16 + uintn;
  if (count * entrySize !== reader.end - reader.offset) {
    reader.fail(`${count} tables in ${reader.end - reader.offset} bytes`);
  }
  const tables: HandoffTable[] = [];
  for (let i = 0; i < count; i++) {
    tables.push({
      guid: guid.read(reader),
      address: uintn === 8 ? u64le.read(reader) : BigInt(u32le.read(reader)),
    });
  }
  return { kind: 'handoff_tables', description, tables };
}

const GCE_SIGNATURE = Buffer.from('GCE NonHostInfo\0', 'latin1');
const GCE_TECHNOLOGIES: readonly GceTechnology[] = ['none', 'sev', 'sev_es', 'tdx', 'sev_snp'];

/** EV_NONHOST_INFO: that of Google Compute Engine is known. */
export function readNonHostInfo(bytes: Buffer): EventData {
  if (!bytes.subarray(0, GCE_SIGNATURE.length).equals(GCE_SIGNATURE)) return { kind: 'bytes' };
  return { kind: 'gce_nonhost_info', technology: GCE_TECHNOLOGIES[bytes[GCE_SIGNATURE.length] ?? -1] ?? 'unknown' };
}

/** EV_EFI_HCRTM_EVENT. The digest is of the H-CRTM's code. */
export function readHcrtm(bytes: Buffer, note: (quirk: Quirk) => void): EventData {
  if (bytes.toString('latin1') !== 'HCRTM') note('hcrtm_text');
  return isAsciiText(bytes) ? textData(bytes, note) : { kind: 'bytes' };
}

const STARTUP_LOCALITY = Buffer.from('StartupLocality\0', 'latin1');

/** Localities that can start a TPM: 4 is the H-CRTM's. */
const STARTUP_LOCALITIES: readonly number[] = [0, 3, 4];

const Sp800155 = struct({ vendorId: u32le, manifest: guid });
type Sp800155 = Decoded<typeof Sp800155>;

/** EV_NO_ACTION that is no Spec ID event (TCG PFP 1.06, 10.4.5). */
export function readNoAction(reader: Reader, bytes: Buffer): EventData {
  if (bytes.subarray(0, 16).equals(STARTUP_LOCALITY)) {
    const start = reader.take(16);
    reader.path = 'locality';
    const locality = u8.read(reader);
    requireEnd(reader);
    if (!STARTUP_LOCALITIES.includes(locality)) {
      new Reader(reader.bytes, start + 16, reader.end, reader.path).fail(`0, 3 or 4 wanted, ${locality} found`);
    }
    return { kind: 'startup_locality', locality };
  }
  const signature = bytes.toString('latin1', 0, 16).replace(/\0$/, '');
  if (!/^SP800-155 Event[23]?$/.test(signature)) return { kind: 'bytes' };
  reader.take(16);
  const pointer: Sp800155 = Sp800155.read(reader);
  return { kind: 'sp800_155', signature, ...pointer };
}

export function requireEnd(reader: Reader): void {
  if (reader.offset !== reader.end) reader.fail(`${reader.end - reader.offset} bytes left over`);
}
