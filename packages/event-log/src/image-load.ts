import { Reader, u64le } from '@keylime/core/codec';
import { readDevicePath } from './device-path.ts';
import { readUintn, type UintnSize } from './uintn.ts';

/** UEFI_IMAGE_LOAD_EVENT (TCG PFP 1.06, 10.2.3). The digest is the Authenticode hash of the image: all of this is a hint. */
export type ImageLoad = {
  readonly locationInMemory: bigint;
  /** Bytes. */
  readonly lengthInMemory: number;
  readonly linkTimeAddress: bigint;
  /** Bytes; 0 where a loader started an image from its memory. */
  readonly devicePathSize: number;
  readonly devicePath: string;
};

/** @throws DecodeError */
export function readImageLoad(reader: Reader, uintn: UintnSize): ImageLoad {
  const locationInMemory = u64le.read(reader);
  const lengthInMemory = readUintn(reader, uintn);
  const linkTimeAddress = uintn === 8 ? u64le.read(reader) : BigInt(readUintn(reader, 4));
  const devicePathSize = readUintn(reader, uintn);
  const start = reader.take(devicePathSize);
  if (reader.offset !== reader.end) reader.fail(`${reader.end - reader.offset} bytes left over`);
  const path = new Reader(reader.bytes, start, start + devicePathSize, `${reader.path}.devicePath`);
  return { locationInMemory, lengthInMemory, linkTimeAddress, devicePathSize, devicePath: readDevicePath(path) };
}
