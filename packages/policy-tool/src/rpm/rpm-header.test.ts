import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { inPieces } from '../archive/archives.fixture.ts';
import { ByteReader } from '../archive/byte-reader.ts';
import { sha256 } from '../tool.fixture.ts';
import { ToolError } from '../tool-error.ts';
import { rpmHeader, rpmPackage } from './rpm.fixture.ts';
import { readRpmHeader } from './rpm-header.ts';

const read = (bytes: Buffer, pieceSize = 100) => readRpmHeader(new ByteReader(inPieces(bytes, pieceSize), 'RPM'));
const isMalformed = (error: unknown) => error instanceof ToolError && error.code === 'archive_malformed';

const FILES = {
  '/usr/bin/demo': sha256('demo'),
  '/usr/bin/link': '',
  '/usr/share/demo/a b': sha256('a b'),
  '/zeros': '0'.repeat(64),
};
/** A package around a header, without digests of it. */
const around = (header: Buffer): Buffer => {
  const lead = Buffer.alloc(96);
  lead.writeUInt32BE(0xedabeedb);
  return Buffer.concat([lead, rpmHeader({}), header]);
};
const NAMED = {
  1000: { type: 'string', value: 'demo' },
  1001: { type: 'string', value: '1' },
} as const;

test('name, version and the files with a digest come from the header, in whatever pieces it arrives', async () => {
  const bytes = await rpmPackage({ name: 'demo', epoch: 4, files: FILES });
  for (const size of [1, 16, bytes.length]) {
    const header = await read(bytes, size);
    assert.equal(header.name, 'demo');
    assert.equal(header.version, '4:1.2-3');
    assert.deepEqual(header.files, [
      ['/usr/bin/demo', sha256('demo')],
      ['/usr/share/demo/a b', sha256('a b')],
    ]);
    assert.equal(header.signature, undefined);
  }
  assert.equal((await read(await rpmPackage({ name: 'demo', files: {} }))).version, '1.2-3');
});

test('a header that is not what the package says of it is malformed', async () => {
  const bytes = await rpmPackage({ name: 'demo', files: FILES });
  const at = bytes.indexOf(sha256('demo'));
  bytes.write('f', at);
  await assert.rejects(read(bytes), /does not have the sha256 digest that the package says/);
});

for (const [what, header, message] of [
  ['without a name', rpmHeader({ 1001: NAMED[1001] }), /no name or no version/],
  [
    'whose lists are of different lengths',
    rpmHeader({ ...NAMED, 1117: { type: 'strings', value: ['a'] } }),
    /different lengths/,
  ],
  [
    'with a file in no directory',
    rpmHeader({
      ...NAMED,
      1035: { type: 'strings', value: ['aa'] },
      1116: { type: 'numbers', value: [7] },
      1117: { type: 'strings', value: ['a'] },
    }),
    /has no directory/,
  ],
  [
    'with a digest that is none',
    rpmHeader({
      ...NAMED,
      1035: { type: 'strings', value: ['AA'] },
      1116: { type: 'numbers', value: [0] },
      1117: { type: 'strings', value: ['a'] },
      1118: { type: 'strings', value: ['/'] },
    }),
    /not hexadecimal/,
  ],
  ['that is none', Buffer.alloc(64), /does not begin with 8eade801/],
] as const) {
  test(`a header ${what} is malformed`, async () => {
    await assert.rejects(read(around(header)), (error: unknown) => {
      assert.ok(isMalformed(error));
      assert.match(String(error), message);
      return true;
    });
  });
}

test('whatever byte is changed, reading ends with a header or with the error for malformed archives', async () => {
  const bytes = around(
    rpmHeader({
      ...NAMED,
      1035: { type: 'strings', value: [sha256('a')] },
      1116: { type: 'numbers', value: [0] },
      1117: { type: 'strings', value: ['a'] },
      1118: { type: 'strings', value: ['/'] },
    }),
  );
  await fc.assert(
    fc.asyncProperty(fc.nat(bytes.length - 1), fc.nat(255), async (at, value) => {
      const changed = Buffer.from(bytes);
      changed[at] = value;
      await read(changed).catch((error: unknown) => assert.ok(isMalformed(error), String(error)));
    }),
  );
});

test('a header that ends early is malformed', async () => {
  const bytes = await rpmPackage({ name: 'demo', files: FILES });
  for (const n of [0, 50, 96, 112, bytes.length - 1]) await assert.rejects(read(bytes.subarray(0, n)), isMalformed);
});
