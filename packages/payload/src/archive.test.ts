import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { test } from 'node:test';
import fc from 'fast-check';
import { ZipFile } from 'yazl';
import { type ArchiveProblem, readZip, storedZip } from './archive.ts';

const AT = new Date('2026-08-04T10:15:03Z');

type Part = { readonly name: string; readonly content?: string; readonly mode?: number; readonly compress?: boolean };

/** An archive of parts; `rename` puts names into its bytes that the library would not write. */
async function zipOf(parts: readonly Part[], rename: Readonly<Record<string, string>> = {}): Promise<Buffer> {
  const zip = new ZipFile();
  for (const { name, content = '', mode = 0o100600, compress = false } of parts) {
    zip.addBuffer(Buffer.from(content), name, { mode, compress, mtime: AT });
  }
  zip.end();
  let text = (await buffer(zip.outputStream)).toString('latin1');
  for (const [from, to] of Object.entries(rename)) {
    assert.equal(from.length, to.length);
    text = text.replaceAll(from, to);
  }
  return Buffer.from(text, 'latin1');
}

async function problemOf(bytes: Buffer): Promise<ArchiveProblem['kind'] | 'none'> {
  const read = await readZip(bytes);
  return read.ok ? 'none' : read.problem.kind;
}

test('what is stored is read back, and unzip reads it too', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'keylime-zip-'));
  try {
    const zip = await storedZip([{ name: 'autorun.sh', content: Buffer.from('#!/bin/sh\n') }], AT);
    assert.deepEqual(await readZip(zip), {
      ok: true,
      value: [{ type: 'file', name: 'autorun.sh', content: Buffer.from('#!/bin/sh\n'), isExecutable: false }],
    });
    writeFileSync(join(folder, 'a.zip'), zip);
    const script = 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])';
    execFileSync('python3', ['-c', script, join(folder, 'a.zip'), folder]);
    assert.equal(readFileSync(join(folder, 'autorun.sh'), 'utf8'), '#!/bin/sh\n');
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('compressed entries, folders and the right to execute are read', async () => {
  const zip = await zipOf([
    { name: 'bin/run', content: 'x'.repeat(5000), mode: 0o100755, compress: true },
    { name: 'bin/data' },
  ]);
  assert.deepEqual(await readZip(zip), {
    ok: true,
    value: [
      { type: 'file', name: 'bin/run', content: Buffer.from('x'.repeat(5000)), isExecutable: true },
      { type: 'file', name: 'bin/data', content: Buffer.alloc(0), isExecutable: false },
    ],
  });
});

for (const [kind, name] of [
  ['name_leaves_folder', '../x'],
  ['name_leaves_folder', 'a/../../x'],
  ['name_leaves_folder', './x'],
  ['name_absolute', '/etc/x'],
  ['name_absolute', 'C:/x'],
  ['name_character', '..\\x'],
  ['name_character', 'a\0b'],
  ['name_character', 'a\nb'],
  ['name_empty', 'a//b'],
] as const) {
  test(`[MUST] an entry named ${JSON.stringify(name)} is refused`, async () => {
    const stand = 'Q'.repeat(name.length);
    assert.equal(await problemOf(await zipOf([{ name: 'ok' }, { name: stand }], { [stand]: name })), kind);
  });
}

test('[MUST] names that are too long are refused', async () => {
  assert.equal(await problemOf(await zipOf([{ name: 'x'.repeat(256) }])), 'name_too_long');
  assert.equal(await problemOf(await zipOf([{ name: `${'x/'.repeat(512)}x` }])), 'name_too_long');
  assert.equal(await problemOf(await zipOf([{ name: 'x'.repeat(255) }])), 'none');
});

test('[MUST] links, devices, pipes and sockets are refused', async () => {
  for (const type of [0o120000, 0o060000, 0o020000, 0o010000, 0o140000]) {
    assert.equal(await problemOf(await zipOf([{ name: 'link', content: '/etc', mode: type | 0o777 }])), 'not_a_file');
  }
});

test('[MUST] a name that comes twice is refused, and a file under a file', async () => {
  assert.equal(await problemOf(await zipOf([{ name: 'aa' }, { name: 'ab' }], { ab: 'aa' })), 'name_duplicate');
  assert.equal(await problemOf(await zipOf([{ name: 'a' }, { name: 'a/b' }])), 'name_duplicate');
  assert.equal(await problemOf(await zipOf([{ name: 'a/b' }, { name: 'a' }])), 'name_duplicate');
  assert.equal(await problemOf(await zipOf([{ name: 'a/b' }, { name: 'a/c' }])), 'none');
});

test('[MUST] bombs are refused: ratio, total size, number of entries', async () => {
  const zeros = '\0'.repeat(2 << 20);
  assert.equal(await problemOf(await zipOf([{ name: 'bomb', content: zeros, compress: true }])), 'bomb');
  const small = { entries: 3, totalBytes: 10, ratio: 200, ratioFromBytes: 1 << 20 };
  const kindUnder = async (parts: readonly Part[]) => {
    const read = await readZip(await zipOf(parts), small);
    return read.ok ? 'none' : read.problem.kind;
  };
  const six = { content: 'x'.repeat(6) };
  assert.equal(await kindUnder([{ name: 'a', ...six }]), 'none');
  assert.equal(
    await kindUnder([
      { name: 'a', ...six },
      { name: 'b', ...six },
    ]),
    'too_large',
  );
  assert.equal(await kindUnder(['a', 'b', 'c', 'd'].map((name) => ({ name }))), 'too_many_entries');
});

test('[MUST] a size in the directory that is smaller than the content is not believed', async () => {
  const zip = await zipOf([{ name: 'a', content: 'x'.repeat(3 << 20), compress: true }]);
  const directory = zip.indexOf(Buffer.from('PK\x01\x02', 'latin1'));
  zip.writeUInt32LE(10, directory + 24);
  assert.equal(await problemOf(zip), 'content_damaged');
});

test('content whose CRC-32 is another is refused', async () => {
  const zip = await zipOf([{ name: 'a', content: 'hello' }]);
  zip.write('j', zip.indexOf('hello'));
  assert.equal(await problemOf(zip), 'content_damaged');
});

test('an encrypted entry and an unknown method are refused', async () => {
  const encrypted = await zipOf([{ name: 'a', content: 'hello', compress: true }]);
  const directory = encrypted.indexOf(Buffer.from('PK\x01\x02', 'latin1'));
  encrypted.writeUInt16LE(encrypted.readUInt16LE(directory + 8) | 1, directory + 8);
  assert.equal(await problemOf(encrypted), 'encrypted');
  const odd = await zipOf([{ name: 'a', content: 'hello', compress: true }]);
  odd.writeUInt16LE(12, directory + 10);
  assert.equal(await problemOf(odd), 'method_unsupported');
});

test('what is not a ZIP is told from a ZIP that is damaged', async () => {
  assert.equal(await problemOf(Buffer.from('hello\n')), 'not_a_zip');
  assert.equal(await problemOf(Buffer.alloc(0)), 'not_a_zip');
  const zip = await zipOf([{ name: 'a', content: 'hello' }]);
  for (let length = 4; length < zip.length; length++) {
    assert.equal(await problemOf(zip.subarray(0, length)), 'malformed');
  }
});

test('no bytes make reading throw, or give a name that leaves the folder', async () => {
  const zip = await zipOf([
    { name: 'a/b', content: 'hello', compress: true },
    { name: 'c', content: 'x' },
  ]);
  const change = fc.record({ at: fc.nat(zip.length - 1), byte: fc.integer({ min: 0, max: 255 }) });
  await fc.assert(
    fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
      const bytes = Buffer.from(zip);
      for (const { at, byte } of changes) bytes[at] = byte;
      const read = await readZip(bytes);
      if (!read.ok) return;
      for (const { name } of read.value) assert.ok(!name.startsWith('/') && !name.split('/').includes('..'), name);
    }),
    { numRuns: 300 },
  );
});
