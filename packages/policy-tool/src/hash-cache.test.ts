import assert from 'node:assert/strict';
import { chmodSync, existsSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import type { FileStamp } from './file-digest.ts';
import { openHashCache } from './hash-cache.ts';
import { folder } from './tool.fixture.ts';
import { ToolError } from './tool-error.ts';

const STAMP: FileStamp = { dev: 1n, ino: 2n, size: 3n, mtimeNs: 4n, ctimeNs: 5_000_000_000n };
const HEX = 'ab'.repeat(32);
const LATER = () => 60_000;

test('a digest is found again as long as size and times of the file are the same', (t) => {
  const file = path.join(folder(t), 'new/cache');
  const cache = openHashCache(file, LATER);
  assert.equal(cache.find(STAMP, 'sha256'), undefined);
  cache.keep(STAMP, 'sha256', HEX);
  cache.save();
  assert.equal(statSync(file).mode & 0o777, 0o600);
  const again = openHashCache(file, LATER);
  assert.equal(again.find(STAMP, 'sha256'), HEX);
  assert.equal(again.find(STAMP, 'sha1'), undefined);
  for (const member of ['dev', 'ino', 'size', 'mtimeNs', 'ctimeNs'] as const) {
    assert.equal(again.find({ ...STAMP, [member]: STAMP[member] + 1n }, 'sha256'), undefined, member);
  }
});

test('a file that was changed just now is not kept: it may be changed once more at the same time', (t) => {
  const cache = openHashCache(path.join(folder(t), 'cache'), () => 6_000);
  cache.keep(STAMP, 'sha256', HEX);
  assert.equal(cache.find(STAMP, 'sha256'), undefined);
});

test('a cache that others can write is refused', (t) => {
  const file = path.join(folder(t), 'cache');
  writeFileSync(file, '');
  chmodSync(file, 0o620);
  assert.throws(
    () => openHashCache(file),
    (error) => error instanceof ToolError && error.code === 'file_unreadable',
  );
  symlinkSync('cache', `${file}-link`);
  chmodSync(file, 0o600);
  assert.throws(
    () => openHashCache(`${file}-link`),
    (error) => error instanceof ToolError && error.code === 'file_unreadable',
  );
});

test('lines that are no entries are ignored, and a file that is no cache is an empty one', (t) => {
  const file = path.join(folder(t), 'cache');
  writeFileSync(file, `keylime-policy cache 1\n1:2:sha256 3:4:5000000000 ${HEX}\n1:3:sha256 nonsense\n\n`, {
    mode: 0o600,
  });
  assert.equal(openHashCache(file).find(STAMP, 'sha256'), HEX);
  writeFileSync(file, `something else\n1:2:sha256 3:4:5000000000 ${HEX}\n`);
  assert.equal(openHashCache(file).find(STAMP, 'sha256'), undefined);
});

test('nothing is written when nothing was learned', (t) => {
  const file = path.join(folder(t), 'cache');
  const cache = openHashCache(file, LATER);
  cache.save();
  assert.equal(existsSync(file), false);
  cache.keep(STAMP, 'sha256', HEX);
  cache.keep(STAMP, 'sha256', HEX);
  cache.save();
  assert.equal(readFileSync(file, 'utf8').split('\n').length, 3);
});
