import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { folder, skipWithout, writeFiles } from '../tool.fixture.ts';
import { ToolError } from '../tool-error.ts';
import { inPieces, paxRecord, tarArchive } from './archives.fixture.ts';
import { ByteReader } from './byte-reader.ts';
import { tarEntries } from './tar.ts';

async function entries(bytes: Buffer, pieceSize = 1000) {
  const found: (readonly [type: string, path: string, content: string])[] = [];
  for await (const entry of tarEntries(new ByteReader(inPieces(bytes, pieceSize), 'tar'))) {
    let content = entry.target;
    await entry.content((piece) => {
      content += piece.toString();
    });
    found.push([entry.type, entry.path, content]);
  }
  return found;
}

const isMalformed = (error: unknown) => error instanceof ToolError && error.code === 'archive_malformed';

test('files, links and directories come back, in whatever pieces the archive arrives', async () => {
  const archive = tarArchive([
    { path: './', flag: '5' },
    { path: './bin/', flag: '5' },
    { path: './bin/a', content: 'x'.repeat(1300) },
    { path: 'bin/b', flag: '1', target: 'bin/a' },
    { path: 'bin/c', flag: '2', target: '/bin/a' },
    { path: 'bin/empty' },
  ]);
  for (const size of [1, 511, 512, 4096, archive.length]) {
    assert.deepEqual(await entries(archive, size), [
      ['directory', '', ''],
      ['directory', 'bin', ''],
      ['file', 'bin/a', 'x'.repeat(1300)],
      ['hard_link', 'bin/b', 'bin/a'],
      ['symbolic_link', 'bin/c', '/bin/a'],
      ['file', 'bin/empty', ''],
    ]);
  }
});

test('content that nobody reads is passed over', async () => {
  const archive = tarArchive([{ path: 'a', content: 'x'.repeat(2000) }, { path: 'b' }]);
  const paths: string[] = [];
  for await (const entry of tarEntries(new ByteReader(inPieces(archive, 700), 'tar'))) paths.push(entry.path);
  assert.deepEqual(paths, ['a', 'b']);
});

test('long names come from extended headers of pax and of GNU', async () => {
  const name = `${'directory/'.repeat(30)}file`;
  const archive = tarArchive([
    { path: 'pax', flag: 'x', content: paxRecord('mtime', '1.5') + paxRecord('path', name) },
    { path: 'short', content: '1' },
    { path: 'gnu', flag: 'L', content: `${name}\0` },
    { path: 'short', content: '2' },
    { path: 'plain', content: '3' },
  ]);
  assert.deepEqual(await entries(archive), [
    ['file', name, '1'],
    ['file', name, '2'],
    ['file', 'plain', '3'],
  ]);
});

for (const format of ['ustar', 'pax', 'gnu']) {
  test(`archives of the program tar are read: ${format}`, { skip: skipWithout('tar') }, async (t) => {
    const directory = folder(t);
    const long = format === 'ustar' ? 'd/'.repeat(60) : 'directory/'.repeat(20);
    writeFiles(directory, { 'root/a': 'hello', [`root/${long}b`]: 'x'.repeat(10_000), 'root/caf\u00e9': '' });
    mkdirSync(path.join(directory, 'root/empty'));
    execFileSync('tar', [`--format=${format}`, '-cf', 'a.tar', '-C', 'root', '.'], { cwd: directory });
    const files = (await entries(readFileSync(path.join(directory, 'a.tar')))).filter(([type]) => type === 'file');
    assert.deepEqual(
      new Map(files.map(([, name, content]) => [Buffer.from(name, 'latin1').toString(), content])),
      new Map([
        ['a', 'hello'],
        [`${long}b`, 'x'.repeat(10_000)],
        ['caf\u00e9', ''],
      ]),
    );
  });
}

test('an archive cut short within an entry is malformed', async () => {
  const archive = tarArchive([{ path: 'a', content: 'x'.repeat(600) }]);
  for (const n of [1, 511, 513, 1024, 1111]) await assert.rejects(entries(archive.subarray(0, n)), isMalformed);
});

test('an archive that nobody closed has all its content', async () => {
  const archive = tarArchive([{ path: 'a', content: 'x'.repeat(600) }]);
  for (const n of [1112, 1113, 1535]) {
    assert.deepEqual(await entries(archive.subarray(0, n)), [['file', 'a', 'x'.repeat(600)]]);
  }
});

for (const [what, entry] of [
  ['a sparse file', { path: 'x', flag: 'x', content: paxRecord('GNU.sparse.major', '1') }],
  ['an old sparse file', { path: 'x', flag: 'S' }],
  ['a record without a length', { path: 'x', flag: 'x', content: 'path=y\n' }],
  ['a record that is too long', { path: 'x', flag: 'x', content: '99 path=y\n' }],
] as const) {
  test(`${what} is refused`, async () => {
    await assert.rejects(entries(tarArchive([entry, { path: 'a' }])), isMalformed);
  });
}

test('whatever byte of a header is changed, reading ends with entries or with the error for malformed archives', async () => {
  const archive = tarArchive([
    { path: 'x', flag: 'x', content: paxRecord('path', 'y') },
    { path: 'a', content: 'hello' },
  ]);
  await fc.assert(
    fc.asyncProperty(fc.nat(archive.length - 1), fc.nat(255), async (at, value) => {
      const changed = Buffer.from(archive);
      changed[at] = value;
      await entries(changed).catch((error: unknown) => assert.ok(isMalformed(error), String(error)));
    }),
  );
});
