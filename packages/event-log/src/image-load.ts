import { Reader, u64le } from '@keylime/core/codec';
import { readDevicePath } from './device-path.ts';
import type { Quirk } from './quirks.ts';
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

/** What shim leaves behind a device path. */
const MOST_TRAILING_BYTES = 9;

/** @throws DecodeError */
export function readImageLoad(reader: Reader, uintn: UintnSize, note: (quirk: Quirk) => void): ImageLoad {
  const locationInMemory = u64le.read(reader);
  const lengthInMemory = readUintn(reader, uintn);
  const linkTimeAddress = uintn === 8 ? u64le.read(reader) : BigInt(readUintn(reader, 4));
  const devicePathSize = readUintn(reader, uintn);
  const start = reader.take(devicePathSize);
  const left = reader.end - reader.offset;
  if (left > MOST_TRAILING_BYTES) reader.fail(`${left} bytes left over`);
  if (left > 0) note('image_load_trailing_bytes');
  const path = new Reader(reader.bytes, start, start + devicePathSize, `${reader.path}.devicePath`);
  return { locationInMemory, lengthInMemory, linkTimeAddress, devicePathSize, devicePath: readDevicePath(path) };
}
