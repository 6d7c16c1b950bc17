import { ByteReader } from './byte-reader.ts';

const MAGIC = 0xfd2fb528;
const SKIPPABLE = 0x184d2a50;

/**
 * Splits zstd data into their frames: node:zlib unpacks only the first, and says nothing of the others. Zeros after the
 * last frame are passed over. Each frame is to be read before the next is asked for. Source: RFC 8878 section 3.1.
 */
export async function* zstdFrames(source: AsyncIterable<Uint8Array>): AsyncGenerator<AsyncGenerator<Buffer>> {
  const reader = new ByteReader(source, 'zstd');
  for (;;) {
    const bytes = Buffer.from(await reader.upTo(4));
    if (bytes.length === 0) return;
    const magic = bytes.length === 4 ? bytes.readUInt32LE() : 0;
    if (magic === MAGIC) {
      const frame = frameBytes(reader, bytes);
      yield frame;
      for await (const _ of frame);
    } else if ((magic & 0xfffffff0) >>> 0 === SKIPPABLE) {
      await reader.skip((await reader.exactly(4)).readUInt32LE());
    } else if (bytes.some((byte) => byte !== 0)) {
      reader.fail('what follows a frame is no frame');
    }
  }
}

async function* frameBytes(reader: ByteReader, magic: Buffer): AsyncGenerator<Buffer> {
  yield magic;
  const [descriptor = 0] = await reader.exactly(1);
  const isSingleSegment = (descriptor & 0x20) !== 0;
  const hasChecksum = (descriptor & 0x04) !== 0;
  const dictionaryIdBytes = [0, 1, 2, 4][descriptor & 3] ?? 0;
  const contentSizeBytes = [isSingleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] ?? 0;
  yield Buffer.of(descriptor);
  yield copy(await reader.exactly((isSingleSegment ? 0 : 1) + dictionaryIdBytes + contentSizeBytes));
  for (let isLast = false; !isLast; ) {
    const header = copy(await reader.exactly(3));
    const block = header.readUIntLE(0, 3);
    isLast = (block & 1) !== 0;
    const isRepeatedByte = ((block >> 1) & 3) === 1;
    yield header;
    yield copy(await reader.exactly(isRepeatedByte ? 1 : block >> 3));
  }
  if (hasChecksum) yield copy(await reader.exactly(4));
}

const copy = (bytes: Buffer): Buffer => Buffer.from(bytes);
