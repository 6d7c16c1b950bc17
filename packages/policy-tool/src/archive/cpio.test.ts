import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ToolError } from '../tool-error.ts';
import { cpioArchive } from './archives.fixture.ts';
import { readCpio } from './cpio.ts';

const contents = (bytes: Buffer) =>
  readCpio(bytes).files.map(({ path, content }) => [path.toString(), content.toString()]);

const isMalformed = (error: unknown) => error instanceof ToolError && error.code === 'archive_malformed';

test('files of any size come back with their paths from the root on', () => {
  const file = fc.record({ path: fc.stringMatching(/^[a-z]{1,20}$/), content: fc.string({ maxLength: 50 }) });
  fc.assert(
    fc.property(fc.array(file), (files) => {
      const archive = cpioArchive(files);
      assert.deepEqual(
        contents(archive),
        files.map(({ path, content }) => [`/${path}`, content]),
      );
      assert.equal(readCpio(archive).end, archive.length);
    }),
  );
});

test('names with and without a leading dot or slash are one name; directories and links are no files', () => {
  const archive = cpioArchive([
    { path: '.', mode: 0o40755 },
    { path: './bin/a', content: 'a' },
    { path: '/bin/b', content: 'b' },
    { path: 'bin/c', content: 'c' },
    { path: 'bin/link', content: 'c', mode: 0o120777 },
  ]);
  assert.deepEqual(contents(archive), [
    ['/bin/a', 'a'],
    ['/bin/b', 'b'],
    ['/bin/c', 'c'],
  ]);
});

test('a file with several names has its content under each, though only the last entry carries it', () => {
  const archive = cpioArchive([
    { path: 'one', ino: 7, nlink: 2 },
    { path: 'other', ino: 8, nlink: 2, content: 'x' },
    { path: 'two', ino: 7, nlink: 2, content: 'content' },
  ]);
  assert.deepEqual(contents(archive).sort(), [
    ['/one', 'content'],
    ['/other', 'x'],
    ['/two', 'content'],
  ]);
});

test('an archive cut short anywhere is malformed', () => {
  const archive = cpioArchive([{ path: 'a', content: 'hello' }]);
  // The zeros after the name of the trailer may be missing.
  for (let n = 0; n < archive.length - 2; n++) assert.throws(() => readCpio(archive.subarray(0, n)), isMalformed);
});

test('whatever bytes are changed, reading ends with files or with the error for malformed archives', () => {
  const archive = cpioArchive([
    { path: 'a', content: 'hello' },
    { path: 'b', ino: 1, nlink: 2 },
  ]);
  fc.assert(
    fc.property(fc.nat(archive.length - 1), fc.nat(255), (at, value) => {
      const changed = Buffer.from(archive);
      changed[at] = value;
      try {
        readCpio(changed);
      } catch (error) {
        assert.ok(isMalformed(error), String(error));
      }
    }),
  );
});
