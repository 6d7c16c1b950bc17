import { spawn } from 'node:child_process';
import { Readable, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { isErrno, reason, ToolError } from '../tool-error.ts';
import { zstdFrames } from './zstd-frames.ts';

/** A program that unpacks stdin to stdout, and the package that brings it. */
type Unpacker = { readonly program: string; readonly package: string; readonly args: readonly string[] };

/** How data are compressed; `node` means that this program does it itself. */
type Compression = { readonly name: string; readonly magic: Buffer; readonly by: 'node' | Unpacker };

const program = (name: string): Unpacker => ({ program: name, package: name, args: ['-dc'] });
/** Without a limit the header of the data decides how much memory is taken. */
const XZ: Unpacker = { program: 'xz', package: 'xz-utils', args: ['-dc', '--memlimit-decompress=512MiB'] };

/** Source: Linux lib/decompress.c `compressed_formats`; RFC 1952, RFC 8878, LZ4 frame format. */
const COMPRESSIONS: readonly Compression[] = [
  { name: 'gzip', magic: Buffer.from('1f8b', 'hex'), by: 'node' },
  { name: 'zstd', magic: Buffer.from('28b52ffd', 'hex'), by: 'node' },
  // A skippable frame in front, as pzstd writes.
  { name: 'zstd', magic: Buffer.from('502a4d18', 'hex'), by: 'node' },
  { name: 'xz', magic: Buffer.from('fd377a585a00', 'hex'), by: XZ },
  { name: 'lzma', magic: Buffer.from('5d0000', 'hex'), by: XZ },
  { name: 'bzip2', magic: Buffer.from('BZh'), by: program('bzip2') },
  { name: 'lz4', magic: Buffer.from('04224d18', 'hex'), by: program('lz4') },
  { name: 'lz4 (legacy)', magic: Buffer.from('02214c18', 'hex'), by: program('lz4') },
  { name: 'lzo', magic: Buffer.from('894c5a4f000d0a1a0a', 'hex'), by: program('lzop') },
];

const LONGEST_MAGIC = Math.max(...COMPRESSIONS.map(({ magic }) => magic.length));

export const compressionOf = (bytes: Buffer): Compression | undefined =>
  COMPRESSIONS.find(({ magic }) => bytes.subarray(0, magic.length).equals(magic));

/**
 * The bytes of `source`, unpacked if they are compressed in a known way.
 * @throws ToolError `program_missing`, `archive_malformed`
 */
export async function* decompressed(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const chunks = source[Symbol.asyncIterator]();
  let head = Buffer.alloc(0);
  try {
    while (head.length < LONGEST_MAGIC) {
      const next = await chunks.next();
      if (next.done) break;
      head = Buffer.concat([head, next.value]);
    }
    const whole = resumed(head, chunks);
    const compression = compressionOf(head);
    if (compression === undefined) yield* whole;
    else if (compression.name === 'gzip') yield* gunzipped(whole);
    else if (compression.by === 'node') {
      for await (const frame of zstdFrames(whole)) yield* through(frame, createZstdDecompress(), 'zstd');
    } else yield* throughProgram(whole, compression.name, compression.by);
  } finally {
    await chunks.return?.();
  }
}

async function* resumed(head: Buffer, chunks: AsyncIterator<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head;
  for (let next = await chunks.next(); !next.done; next = await chunks.next()) yield next.value;
}

async function* through(
  source: AsyncIterable<Uint8Array>,
  transform: Transform,
  name: string,
): AsyncGenerator<Uint8Array> {
  let broken: unknown;
  const feeding = pipeline(Readable.from(source), transform).catch((error: unknown) => {
    broken = error;
  });
  try {
    yield* transform;
  } catch (error) {
    await feeding;
    const cause = broken ?? error;
    throw cause instanceof ToolError ? cause : damaged(name, reason(cause), cause);
  } finally {
    transform.destroy();
    await feeding;
  }
}

/** node:zlib passes over whatever follows zeros after the compressed data: only the zeros may be passed over. */
async function* gunzipped(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const pieces = source[Symbol.asyncIterator]();
  let sizeBytes = 0;
  let lastUsed = 0;
  async function* noted(): AsyncGenerator<Uint8Array> {
    for (let next = await pieces.next(); !next.done; next = await pieces.next()) {
      const used = next.value.findLastIndex((byte) => byte !== 0) + 1;
      if (used > 0) lastUsed = sizeBytes + used;
      sizeBytes += next.value.length;
      yield next.value;
    }
  }
  const gunzip = createGunzip();
  yield* through(noted(), gunzip, 'gzip');
  for await (const _ of noted());
  if (lastUsed > gunzip.bytesWritten) {
    throw damaged('gzip', `something else follows after ${gunzip.bytesWritten} bytes of compressed data`);
  }
}

async function* throughProgram(
  source: AsyncIterable<Uint8Array>,
  name: string,
  by: Unpacker,
): AsyncGenerator<Uint8Array> {
  const child = spawn(by.program, by.args, { stdio: ['pipe', 'pipe', 'pipe'] });
  let complaints = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    if (complaints.length < 4096) complaints += text;
  });
  const ended = new Promise<number | Error | null>((resolve) => {
    child.on('error', resolve);
    child.on('close', resolve);
  });
  let broken: unknown;
  const feeding = pipeline(Readable.from(source), child.stdin).catch((error: unknown) => {
    // It may have all that it needs before it has read all: its exit code says whether that is so.
    if (!isErrno(error, 'EPIPE', 'ERR_STREAM_PREMATURE_CLOSE')) broken = error;
  });
  try {
    yield* child.stdout;
    const status = await ended;
    await feeding;
    if (isErrno(status, 'ENOENT')) throw missing(name, by);
    if (broken !== undefined) throw broken;
    // Some only warn of what follows the compressed data, and pass over it.
    if (status !== 0 || complaints !== '') {
      throw damaged(name, status instanceof Error ? reason(status) : lastLine(complaints));
    }
  } finally {
    child.kill();
    child.stdin.destroy();
    await feeding;
  }
}

export const KNOWN_COMPRESSIONS = [...new Set(COMPRESSIONS.map(({ name }) => name))].join(', ');

const missing = (name: string, by: Unpacker): ToolError =>
  new ToolError(
    'program_missing',
    `The data are compressed with ${name}, and the program ${by.program} is not installed: install the package ${by.package}`,
  );

const damaged = (name: string, why: string, cause?: unknown): ToolError =>
  new ToolError('archive_malformed', `The data cannot be unpacked as ${name}: ${why}`, { cause });

const lastLine = (text: string): string => text.trim().split('\n').at(-1) || 'the program failed';
