import { constants, crc32, inflateRawSync } from 'node:zlib';

/** An initial ramdisk that unpacks to more is no ramdisk. */
export const MAX_UNPACKED_BYTES = 2 ** 31 - 1;

/**
 * Where the compressed data at the beginning of `bytes` end, if something else may follow them; `undefined` if they do not
 * tell, or are damaged. Kernels take ramdisks of parts that are compressed each in its own way.
 */
export function endOfFirstPart(bytes: Buffer, compression: string): number | undefined {
  switch (compression) {
    case 'gzip':
      return gzipEnd(bytes);
    case 'zstd':
      return zstdEnd(bytes);
    case 'xz':
      return xzEnd(bytes);
    default:
      return undefined;
  }
}

const GZIP = { headerCrc: 0x02, extra: 0x04, name: 0x08, comment: 0x10 } as const;

/** One member. Source: RFC 1952 section 2.3. */
function gzipEnd(bytes: Buffer): number | undefined {
  const flags = bytes[3] ?? 0;
  let at = 10;
  if (flags & GZIP.extra) at += at + 2 > bytes.length ? 2 : 2 + bytes.readUInt16LE(at);
  for (const flag of [GZIP.name, GZIP.comment]) if (flags & flag) at = bytes.indexOf(0, at) + 1 || bytes.length;
  if (flags & GZIP.headerCrc) at += 2;
  try {
    // The type declarations do not know what `info` changes.
    const options = { info: true, finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: MAX_UNPACKED_BYTES } as const;
    const { buffer, engine } = inflateRawSync(bytes.subarray(at), options) as unknown as {
      readonly buffer: Buffer;
      readonly engine: { readonly bytesWritten: number };
    };
    const trailer = at + engine.bytesWritten;
    const isRight = trailer + 8 <= bytes.length && bytes.readUInt32LE(trailer) === crc32(buffer);
    return isRight ? trailer + 8 : undefined;
  } catch {
    return undefined;
  }
}

/** All frames. Source: RFC 8878 section 3.1. */
function zstdEnd(bytes: Buffer): number | undefined {
  let at = 0;
  while (at + 8 <= bytes.length) {
    const magic = bytes.readUInt32LE(at);
    if ((magic & 0xfffffff0) >>> 0 === 0x184d2a50) at += 8 + bytes.readUInt32LE(at + 4);
    else if (magic === 0xfd2fb528) {
      const descriptor = bytes[at + 4] ?? 0;
      const isSingleSegment = (descriptor & 0x20) !== 0;
      const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
      at += 5 + (isSingleSegment ? 0 : 1) + ([0, 1, 2, 4][descriptor & 3] ?? 0) + contentSizeBytes;
      for (let isLast = false; !isLast; ) {
        if (at + 3 > bytes.length) return undefined;
        const block = bytes.readUIntLE(at, 3);
        isLast = (block & 1) !== 0;
        at += 3 + (((block >> 1) & 3) === 1 ? 1 : block >> 3);
      }
      if (descriptor & 0x04) at += 4;
    } else break;
  }
  return at > 0 && at <= bytes.length ? at : undefined;
}

/** The first stream, by its footer, whose checksum no other bytes are likely to have. Source: xz file format 1.1.0, 2.1.2. */
function xzEnd(bytes: Buffer): number | undefined {
  for (let at = bytes.indexOf('YZ'); at >= 0; at = bytes.indexOf('YZ', at + 1)) {
    const footer = bytes.subarray(at - 10, at);
    if (at % 4 === 2 && footer.length === 10 && footer.readUInt32LE() === crc32(footer.subarray(4))) return at + 2;
  }
  return undefined;
}
