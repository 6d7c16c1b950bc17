import { type Reader, u32le, u64le } from '@keylime/core/codec';

/** Bytes of an UINTN: 4 on 32-bit firmware. */
export type UintnSize = 4 | 8;

/** An UINTN of at most 2^53 - 1. @throws DecodeError if it is larger: nothing in a log is. */
export function readUintn(reader: Reader, size: UintnSize): number {
  if (size === 4) return u32le.read(reader);
  const value = u64le.read(reader);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) reader.fail(`${value} is over any size`);
  return Number(value);
}
