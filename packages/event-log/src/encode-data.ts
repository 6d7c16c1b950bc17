import { encode, fixedBytes, struct, u32le } from '@keylime/core/codec';
import { GptHeader, type GptPartition, PartitionPlace } from './gpt.ts';
import { type Guid, guid, VARIABLE_GUIDS } from './guid.ts';
import type { UintnSize } from './uintn.ts';

/** Event data as firmware and loaders write it, for logs that are made: the other direction of the readers beside. */

/** `value` in `size` bytes, little-endian. */
export function encodeNumber(value: number | bigint, size: 1 | 2 | 4 | 8): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
}

export const encodeUtf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');

type VariableOptions = {
  /** `VARIABLE_GUIDS.global` if not given. */
  readonly owner?: Guid;
  readonly uintn?: UintnSize;
  /** Written instead of the size of `data`. */
  readonly dataLength?: number;
};

/** UEFI_VARIABLE_DATA (TCG PFP 1.06, 10.2.5). */
export function encodeVariable(name: string, data: Uint8Array, options: VariableOptions = {}): Buffer {
  const { owner = VARIABLE_GUIDS.global, uintn = 8, dataLength = data.length } = options;
  const lengths = [encodeNumber(name.length, uintn), encodeNumber(dataLength, uintn)];
  return Buffer.concat([encode(guid, owner), ...lengths, encodeUtf16(name), data]);
}

const ListHead = struct({ type: guid, listSize: u32le, headerSize: u32le, signatureSize: u32le });

/** EFI_SIGNATURE_LIST (UEFI 2.10, 32.4.1) of `signatures`, which have all one size. */
export function encodeSignatureList(
  type: Guid,
  owner: Guid,
  signatures: readonly Uint8Array[],
  header: Uint8Array = Buffer.alloc(0),
): Buffer {
  const signatureSize = 16 + (signatures[0]?.length ?? 0);
  const listSize = 28 + header.length + signatureSize * signatures.length;
  const head = encode(ListHead, { type, listSize, headerSize: header.length, signatureSize });
  return Buffer.concat([head, header, ...signatures.map((signature) => encodeSignatureData(owner, signature))]);
}

/** EFI_SIGNATURE_DATA: `signature` with who put it there. */
export const encodeSignatureData = (owner: Guid, signature: Uint8Array): Buffer =>
  Buffer.concat([encode(guid, owner), signature]);

/** A node of a device path (UEFI 2.10, 10.3). */
export function encodePathNode(type: number, subtype: number, ...body: readonly Uint8Array[]): Buffer {
  const size = 4 + body.reduce((sum, { length }) => sum + length, 0);
  return Buffer.concat([Buffer.of(type, subtype), encodeNumber(size, 2), ...body]);
}

/** The node that ends a device path. */
export const PATH_END = encodePathNode(0x7f, 0xff);

/** The node of a file; `path` with backslashes. */
export const encodeFileNode = (path: string): Buffer => encodePathNode(4, 4, encodeUtf16(`${path}\0`));

/** UEFI_IMAGE_LOAD_EVENT (TCG PFP 1.06, 10.2.3) of an image somewhere in memory. */
export const encodeImageLoad = (devicePath: Uint8Array, uintn: UintnSize = 8): Buffer =>
  Buffer.concat([
    encodeNumber(0x7e00_0000, 8),
    encodeNumber(0x1_0000, uintn),
    encodeNumber(0, uintn),
    encodeNumber(devicePath.length, uintn),
    devicePath,
  ]);

/** EFI_LOAD_OPTION (UEFI 2.10, 3.1.3), active. */
export const encodeLoadOption = (
  description: string,
  devicePath: Uint8Array,
  optional: Uint8Array = Buffer.alloc(0),
): Buffer =>
  Buffer.concat([
    encodeNumber(1, 4),
    encodeNumber(devicePath.length, 2),
    encodeUtf16(`${description}\0`),
    devicePath,
    optional,
  ]);

const nameBytes = fixedBytes(72);

/** EFI_GPT_DATA (TCG PFP 1.06, 10.2.6): the table of a disk of 4096 blocks. Its checksums are made up. */
export function encodeGpt(diskGuid: Guid, partitions: readonly GptPartition[], uintn: UintnSize = 8): Buffer {
  const header = encode(GptHeader, {
    signature: Buffer.from('EFI PART', 'latin1'),
    revision: 0x1_0000,
    headerSize: 92,
    headerCrc32: 0x1234,
    reserved: 0,
    myLba: 1n,
    alternateLba: 4095n,
    firstUsableLba: 34n,
    lastUsableLba: 4062n,
    diskGuid,
    partitionEntryLba: 2n,
    numberOfPartitionEntries: 128,
    sizeOfPartitionEntry: 128,
    partitionEntryArrayCrc32: 0x5678,
  });
  const entries = partitions.map(({ name, ...place }) =>
    Buffer.concat([encode(PartitionPlace, place), encode(nameBytes, Buffer.concat([encodeUtf16(name)], 72))]),
  );
  return Buffer.concat([header, encodeNumber(partitions.length, uintn), ...entries]);
}
