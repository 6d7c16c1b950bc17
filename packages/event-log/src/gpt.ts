import { type Decoded, fixedBytes, type Reader, struct, u32le, u64le } from '@keylime/core/codec';
import { guid } from './guid.ts';
import { utf16Before } from './text.ts';
import { readUintn, type UintnSize } from './uintn.ts';

/** UEFI_PARTITION_TABLE_HEADER (UEFI 2.10, 5.3.2). Sizes in bytes, places in logical blocks. */
export const GptHeader = struct({
  signature: fixedBytes(8),
  revision: u32le,
  headerSize: u32le,
  headerCrc32: u32le,
  reserved: u32le,
  myLba: u64le,
  alternateLba: u64le,
  firstUsableLba: u64le,
  lastUsableLba: u64le,
  diskGuid: guid,
  partitionEntryLba: u64le,
  numberOfPartitionEntries: u32le,
  sizeOfPartitionEntry: u32le,
  partitionEntryArrayCrc32: u32le,
});
export type GptHeader = Decoded<typeof GptHeader>;

/** 36 UTF-16 units, filled up with NULs. */
const nameBytes = fixedBytes(72);

/** EFI_PARTITION_ENTRY before its name. */
export const PartitionPlace = struct({
  typeGuid: guid,
  uniqueGuid: guid,
  startingLba: u64le,
  endingLba: u64le,
  attributes: u64le,
});

/** EFI_PARTITION_ENTRY of a used partition. */
export type GptPartition = Decoded<typeof PartitionPlace> & { readonly name: string };

/** EFI_GPT_DATA (TCG PFP 1.06, 10.2.6). */
export type GptData = { readonly header: GptHeader; readonly partitions: readonly GptPartition[] };

/** @throws DecodeError if there is no GPT header or entries and event do not end together. */
export function readGpt(reader: Reader, uintn: UintnSize): GptData {
  const { path } = reader;
  reader.path = `${path}.header`;
  const start = reader.offset;
  const header = GptHeader.read(reader);
  if (header.signature.toString('latin1') !== 'EFI PART') {
    reader.offset = start;
    reader.fail('no signature EFI PART');
  }
  reader.path = `${path}.numberOfPartitions`;
  const count = readUintn(reader, uintn);
  const entrySize = header.sizeOfPartitionEntry;
  if (count * 128 > reader.end - reader.offset)
    reader.fail(`${count} partitions in ${reader.end - reader.offset} bytes`);
  if (entrySize < 128) reader.fail(`partition entries of ${entrySize} bytes`);
  const partitions: GptPartition[] = [];
  for (let i = 0; i < count; i++) {
    reader.path = `${path}.partitions[${i}]`;
    partitions.push({ ...PartitionPlace.read(reader), name: utf16Before(nameBytes.read(reader)) });
  }
  reader.path = path;
  if (reader.offset !== reader.end) reader.fail(`${reader.end - reader.offset} bytes left over`);
  return { header, partitions };
}
