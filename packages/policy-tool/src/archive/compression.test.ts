import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { skipWithout } from '../tool.fixture.ts';
import { ToolError } from '../tool-error.ts';
import { inPieces } from './archives.fixture.ts';
import { decompressed } from './compression.ts';

async function unpack(bytes: Buffer, pieceSize = 5000): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of decompressed(inPieces(bytes, pieceSize))) chunks.push(chunk);
  return Buffer.concat(chunks);
}

const DATA = Buffer.from(Array.from({ length: 20_000 }, (_, i) => `line ${i * i}\n`).join(''));

const code = (wanted: string) => (error: unknown) => error instanceof ToolError && error.code === wanted;

for (const [name, program, ...args] of [
  ['xz', 'xz'],
  ['lzma', 'xz', '--format=lzma'],
  ['bzip2', 'bzip2'],
  ['lz4', 'lz4', '-q'],
  ['lz4 legacy', 'lz4', '-lq'],
  ['lzo', 'lzop'],
] as const) {
  test(`${name} is unpacked by its program`, { skip: skipWithout(program) }, async () => {
    const packed = execFileSync(program, ['-c', ...args], { input: DATA });
    assert.ok((await unpack(packed)).equals(DATA));
    await assert.rejects(unpack(packed.subarray(0, packed.length >> 1)), code('archive_malformed'));
    const followed = Buffer.concat([packed, Buffer.alloc(8), Buffer.from('070701 and more')]);
    await assert.rejects(unpack(followed), code('archive_malformed'));
  });
}

for (const [name, pack] of [
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const) {
  test(`${name} is unpacked, in whatever pieces it comes`, async () => {
    const packed = pack(DATA);
    for (const size of [1, 1000, packed.length]) assert.ok((await unpack(packed, size)).equals(DATA));
  });
  test(`${name} data in several parts are unpacked to the end, and zeros after them passed over`, async () => {
    const packed = Buffer.concat([pack(DATA.subarray(0, 70_000)), pack(DATA.subarray(70_000)), Buffer.alloc(600)]);
    for (const size of [7, 5000, packed.length]) assert.ok((await unpack(packed, size)).equals(DATA));
  });
  test(`${name} data that are cut short, damaged or followed by something else are malformed`, async () => {
    const packed = pack(DATA);
    await assert.rejects(unpack(packed.subarray(0, -5)), code('archive_malformed'));
    const damaged = Buffer.from(packed);
    // Where the header of the data is: not all of zstd's data have a checksum.
    damaged.fill(0xff, 4, 20);
    await assert.rejects(unpack(damaged), code('archive_malformed'));
    for (const zeros of [0, 8, 20_000]) {
      const followed = Buffer.concat([
        packed,
        Buffer.alloc(zeros),
        pack(DATA),
        Buffer.alloc(zeros),
        Buffer.from('more'),
      ]);
      for (const size of [1000, followed.length]) {
        await assert.rejects(unpack(followed, size), code('archive_malformed'), `${zeros} ${size}`);
      }
    }
  });
}

test('frames of zstd to be skipped are skipped', async () => {
  const skipped = Buffer.from('502a4d1803000000aabbcc', 'hex');
  assert.ok((await unpack(Buffer.concat([skipped, zstdCompressSync(DATA), skipped]))).equals(DATA));
});

test('what is not compressed is left as it is', async () => {
  assert.ok((await unpack(DATA)).equals(DATA));
  assert.equal((await unpack(Buffer.alloc(0))).length, 0);
});

test('a program that is missing is named with its package', async () => {
  const { PATH } = process.env;
  process.env.PATH = '/nonexistent';
  try {
    await assert.rejects(unpack(Buffer.from('fd377a585a00000000', 'hex')), (error: unknown) => {
      assert.ok(error instanceof ToolError && error.code === 'program_missing');
      assert.match(error.message, /install the package xz-utils/);
      return true;
    });
  } finally {
    process.env.PATH = PATH;
  }
});

test('whoever stops reading early leaves nothing running', async () => {
  let ended = false;
  async function* source() {
    try {
      for (;;) yield gzipSync(DATA);
    } finally {
      ended = true;
    }
  }
  for await (const chunk of decompressed(source())) if (chunk.length > 0) break;
  assert.equal(ended, true);
});
