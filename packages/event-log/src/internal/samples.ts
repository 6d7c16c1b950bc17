import { encode } from '@keylime/core/codec';
import { type Guid, guid, VARIABLE_GUIDS } from '../guid.ts';

/** Bytes of event data, for tests. */

export const number = (value: number | bigint, size: 1 | 2 | 4 | 8): Buffer => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes.subarray(0, size);
};

export const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
export const utf16 = (text: string): Buffer => Buffer.from(text, 'utf16le');
export const guidBytes = (value: Guid): Buffer => encode(guid, value);

type VariableOptions = { readonly owner?: Guid; readonly uintn?: 4 | 8; readonly dataLength?: number };

export const variable = (name: string, data: Uint8Array, options: VariableOptions = {}): Buffer => {
  const { owner = VARIABLE_GUIDS.global, uintn = 8, dataLength = data.length } = options;
  const lengths = [number(name.length, uintn), number(dataLength, uintn)];
  return Buffer.concat([guidBytes(owner), ...lengths, utf16(name), data]);
};

export const signatureList = (
  type: Guid,
  owner: Guid,
  signatures: readonly Uint8Array[],
  header: Uint8Array = Buffer.alloc(0),
) => {
  const size = 16 + (signatures[0]?.length ?? 0);
  const sizes = [28 + header.length + size * signatures.length, header.length, size].map((value) => number(value, 4));
  const entries = signatures.flatMap((signature) => [guidBytes(owner), signature]);
  return Buffer.concat([guidBytes(type), ...sizes, header, ...entries]);
};

export const node = (type: number, subtype: number, ...body: readonly Uint8Array[]): Buffer => {
  const size = 4 + body.reduce((sum, { length }) => sum + length, 0);
  return Buffer.concat([Buffer.of(type, subtype), number(size, 2), ...body]);
};
export const END = node(0x7f, 0xff);
export const fileNode = (path: string): Buffer => node(4, 4, utf16(`${path}\0`));

export const imageLoad = (devicePath: Uint8Array, uintn: 4 | 8 = 8): Buffer =>
  Buffer.concat([
    number(0x7e00_0000, 8),
    number(0x1_0000, uintn),
    number(0, uintn),
    number(devicePath.length, uintn),
    devicePath,
  ]);

export const loadOption = (
  description: string,
  devicePath: Uint8Array,
  optional: Uint8Array = Buffer.alloc(0),
): Buffer =>
  Buffer.concat([number(1, 4), number(devicePath.length, 2), utf16(`${description}\0`), devicePath, optional]);

/** A GPT with one partition. */
export const gpt = (uintn: 4 | 8 = 8): Buffer =>
  Buffer.concat([
    ascii('EFI PART'),
    ...[0x1_0000, 92, 0x1234, 0].map((value) => number(value, 4)),
    ...[1, 4095, 34, 4062].map((value) => number(value, 8)),
    guidBytes(SAMPLE_GUID),
    number(2, 8),
    ...[128, 128, 0x5678].map((value) => number(value, 4)),
    number(1, uintn),
    guidBytes('c12a7328-f81f-11d2-ba4b-00a0c93ec93b'),
    guidBytes(SAMPLE_GUID),
    ...[2048, 4000, 0].map((value) => number(value, 8)),
    Buffer.concat([utf16('EFI System')], 72),
  ]);

export const SAMPLE_GUID = 'c3224be1-707a-4677-80b8-4eda1d41927e';
