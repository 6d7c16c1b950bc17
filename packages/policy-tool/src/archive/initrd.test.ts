import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
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
