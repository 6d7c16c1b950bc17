import { ToolError } from '../tool-error.ts';

/** What is wrong with an archive, and where. */
export const malformed = (format: string, at: number, problem: string): ToolError =>
  new ToolError('archive_malformed', `This is no well-formed ${format} archive: ${problem} at byte ${at}`);

const EMPTY = Buffer.alloc(0);

/** Reads a stream of bytes in order, piece by piece. All that it throws itself is a `ToolError` `archive_malformed`. */
export class ByteReader {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #format: string;
  #chunk: Buffer = EMPTY;
  #position = 0;

  /** `format` is named in errors. */
  constructor(source: AsyncIterable<Uint8Array>, format: string) {
    this.#chunks = source[Symbol.asyncIterator]();
    this.#format = format;
  }

  /** Bytes read so far. */
  get position(): number {
    return this.#position;
  }

  fail(problem: string): never {
    throw malformed(this.#format, this.#position, problem);
  }

  /** The next piece that came in one go, at most `most` bytes; empty at the end. Valid until the next call. */
  async some(most: number): Promise<Buffer> {
    while (this.#chunk.length === 0) {
      const next = await this.#chunks.next();
      if (next.done) return EMPTY;
      this.#chunk = Buffer.from(next.value.buffer, next.value.byteOffset, next.value.length);
    }
    const piece = this.#chunk.subarray(0, most);
    this.#chunk = this.#chunk.subarray(piece.length);
    this.#position += piece.length;
    return piece;
  }

  /** Up to `size` bytes, fewer only at the end of the stream. */
  async upTo(size: number): Promise<Buffer> {
    const first = await this.some(size);
    if (first.length === size || first.length === 0) return first;
    const pieces = [Buffer.from(first)];
    for (let missing = size - first.length; missing > 0; ) {
      const piece = await this.some(missing);
      if (piece.length === 0) break;
      pieces.push(Buffer.from(piece));
      missing -= piece.length;
    }
    return Buffer.concat(pieces);
  }

  /** Exactly `size` bytes. */
  async exactly(size: number): Promise<Buffer> {
    const bytes = await this.upTo(size);
    return bytes.length === size ? bytes : this.fail(`it ends ${size - bytes.length} bytes too early`);
  }

  /** Hands the next `size` bytes to `consume`, piece by piece. */
  async forEach(size: number, consume: (piece: Buffer) => void): Promise<void> {
    for (let missing = size; missing > 0; ) {
      const piece = await this.some(missing);
      if (piece.length === 0) this.fail(`it ends ${missing} bytes too early`);
      consume(piece);
      missing -= piece.length;
    }
  }

  skip(size: number): Promise<void> {
    return this.forEach(size, () => {});
  }

  /** The next `size` bytes as a stream of their own: what is not taken from it is passed over when it is closed. */
  async *part(size: number): AsyncGenerator<Buffer> {
    let missing = size;
    try {
      while (missing > 0) {
        const piece = await this.some(missing);
        if (piece.length === 0) this.fail(`it ends ${missing} bytes too early`);
        missing -= piece.length;
        yield piece;
      }
    } finally {
      await this.skip(missing);
    }
  }

  /** Reads to the end: what follows the end of an archive still belongs to the file. */
  async drain(): Promise<void> {
    while ((await this.some(Number.MAX_SAFE_INTEGER)).length > 0);
  }

  /** Ends the stream: files are closed, programs stopped. */
  async close(): Promise<void> {
    await this.#chunks.return?.();
  }
}
