import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openContentCache, packageContent } from './content-cache.ts';
import { folder } from './tool.fixture.ts';
import { ToolError } from './tool-error.ts';

const SUM = 'a'.repeat(64);
const CONTENT = { name: 'x', version: '1', files: [['/opt/\udcff', 'b'.repeat(64)]] } as const;

test('what was kept is found under its SHA-256 and algorithm, also by another process', (t) => {
  const directory = path.join(folder(t), 'cache');
  openContentCache(directory).keep(SUM, 'sha256', CONTENT);
  const cache = openContentCache(directory);
  assert.deepEqual(cache.find(SUM, 'sha256', packageContent), CONTENT);
  assert.equal(cache.find(SUM, 'sha512', packageContent), undefined);
  assert.equal(cache.find('c'.repeat(64), 'sha256', packageContent), undefined);
});

test('what others can write is refused, what is no package is none', (t) => {
  const directory = folder(t);
  const file = path.join(directory, `${SUM}.sha256`);
  for (const text of ['', '{}', '{"name":"x","version":"1","files":[["/x"]]}']) {
    writeFileSync(file, text, { mode: 0o600 });
    assert.equal(openContentCache(directory).find(SUM, 'sha256', packageContent), undefined);
  }
  chmodSync(file, 0o620);
  assert.throws(
    () => openContentCache(directory).find(SUM, 'sha256', packageContent),
    (error) => error instanceof ToolError && error.code === 'file_unreadable',
  );
});

test('what nobody asked for in ninety days is forgotten, and nothing else', (t) => {
  const directory = path.join(folder(t), 'cache');
  const day = 86_400_000;
  let now = Date.now();
  const cache = openContentCache(directory, () => now);
  const [used, unused] = [SUM, 'd'.repeat(64)];
  for (const sum of [used, unused]) cache.keep(sum, 'sha256', CONTENT);
  now += 60 * day;
  cache.find(used, 'sha256', packageContent);
  now += 60 * day;
  writeFileSync(path.join(directory, 'notes'), '');
  cache.save();
  assert.deepEqual(readdirSync(directory).sort(), [`${used}.sha256`, 'notes']);
});

test('what cannot be kept is told at the end', (t) => {
  const directory = path.join(folder(t), 'cache');
  mkdirSync(path.join(directory, `${SUM}.sha256`), { recursive: true });
  const cache = openContentCache(directory);
  cache.keep(SUM, 'sha256', CONTENT);
  cache.keep('e'.repeat(64), 'sha256', CONTENT);
  assert.throws(
    () => cache.save(),
    (error) => error instanceof ToolError && error.code === 'file_unwritable',
  );
  assert.ok(!existsSync(path.join(directory, `${'e'.repeat(64)}.sha256`)));
});
