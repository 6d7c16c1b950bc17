import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { skipWithout } from '../tool.fixture.ts';
import { ToolError } from '../tool-error.ts';
import { cpioArchive } from './archives.fixture.ts';
import { initrdFiles } from './initrd.ts';

const EARLY = cpioArchive([{ path: 'kernel/x86/microcode/GenuineIntel.bin', content: 'microcode' }]);
const TABLES = cpioArchive([{ path: 'kernel/firmware/acpi/dsdt.aml', content: 'table' }]);
const MAIN = cpioArchive([
  { path: 'init', content: 'init' },
  { path: 'usr/bin/busybox', content: 'busybox' },
]);

const contents = async (bytes: Buffer) =>
  (await initrdFiles(bytes)).map(({ path, content }) => `${path} ${content}`).sort();

const code = (wanted: string) => (error: unknown) => error instanceof ToolError && error.code === wanted;

const MAIN_FILES = ['/init init', '/usr/bin/busybox busybox'];

for (const [name, pack] of [
  ['plain', (bytes: Buffer) => bytes],
  ['gzip', gzipSync],
  ['zstd', zstdCompressSync],
] as const) {
  test(`a ${name} ramdisk is read to its end behind any number of early archives`, async () => {
    assert.deepEqual(await contents(pack(MAIN)), MAIN_FILES);
    const padded = [EARLY, Buffer.alloc(512), TABLES, Buffer.alloc(1000), pack(MAIN), Buffer.alloc(100)];
    assert.deepEqual(
      await contents(Buffer.concat(padded)),
      [
        '/kernel/firmware/acpi/dsdt.aml table',
        '/kernel/x86/microcode/GenuineIntel.bin microcode',
        ...MAIN_FILES,
      ].sort(),
    );
  });
}

const xz = (bytes: Buffer) => execFileSync('xz', ['-c'], { input: bytes, stdio: 'pipe' });

test('parts that are compressed in different ways are all read', { skip: skipWithout('xz') }, async () => {
  const packs = { gzip: gzipSync, zstd: zstdCompressSync, xz, plain: (bytes: Buffer) => bytes };
  const wanted = [MAIN_FILES[0], '/kernel/firmware/acpi/dsdt.aml table', MAIN_FILES[1]];
  for (const [first, pack] of Object.entries(packs)) {
    for (const [second, packOther] of Object.entries(packs)) {
      for (const zeros of [0, 4, 512]) {
        const bytes = Buffer.concat([pack(MAIN), Buffer.alloc(zeros), packOther(TABLES)]);
        assert.deepEqual(await contents(bytes), wanted, `${first} ${zeros} ${second}`);
      }
    }
  }
  const named = Buffer.concat([gzipSync(MAIN).subarray(0, 3), Buffer.from([8]), gzipSync(MAIN).subarray(4, 10)]);
  const withName = Buffer.concat([named, Buffer.from('initrd\0'), gzipSync(MAIN).subarray(10)]);
  assert.deepEqual(await contents(Buffer.concat([withName, TABLES])), wanted);
});

test('a part that is damaged or cut short is no end of the part', { skip: skipWithout('xz') }, async () => {
  for (const pack of [gzipSync, zstdCompressSync, xz]) {
    const packed = pack(MAIN);
    await assert.rejects(initrdFiles(Buffer.concat([packed.subarray(0, -5), TABLES])), code('archive_malformed'));
    const damaged = Buffer.from(packed);
    damaged.writeUInt8((damaged.at(-6) ?? 0) ^ 1, damaged.length - 6);
    await assert.rejects(initrdFiles(Buffer.concat([damaged, TABLES])), code('archive_malformed'));
  }
});

test('several archives in the compressed part are all read', async () => {
  assert.deepEqual(await contents(gzipSync(Buffer.concat([MAIN, Buffer.alloc(64), TABLES]))), [
    MAIN_FILES[0],
    '/kernel/firmware/acpi/dsdt.aml table',
    MAIN_FILES[1],
  ]);
});

test('what follows the archives and is neither archive nor compressed is not passed over', async () => {
  await assert.rejects(initrdFiles(Buffer.concat([MAIN, Buffer.from('something')])), code('archive_unsupported'));
  await assert.rejects(initrdFiles(Buffer.from('something')), code('archive_unsupported'));
  await assert.rejects(initrdFiles(gzipSync(Buffer.from('something'))), code('archive_malformed'));
  await assert.rejects(initrdFiles(gzipSync(Buffer.concat([MAIN, Buffer.from('x')]))), code('archive_malformed'));
});

test('no bytes at all make reading end otherwise than with files or with an error of its own', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
      const tried = Buffer.concat([EARLY, bytes]);
      await initrdFiles(tried).catch((error: unknown) => assert.ok(error instanceof ToolError, String(error)));
    }),
    { numRuns: 50 },
  );
});
