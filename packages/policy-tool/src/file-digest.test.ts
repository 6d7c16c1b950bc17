import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { digestFile } from './file-digest.ts';
import { folder } from './tool.fixture.ts';

test('files of any size have the digest of their content', (t) => {
  const directory = folder(t);
  for (const size of [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_000]) {
    const content = Buffer.alloc(size, 'content');
    const file = path.join(directory, String(size));
    writeFileSync(file, content);
    const result = digestFile(file, 'sha384', true);
    assert.ok(
      'hex' in result,
      JSON.stringify(result, (_, value) => (typeof value === 'bigint' ? `${value}` : value)),
    );
    assert.equal(result.hex, createHash('sha384').update(content).digest('hex'));
    assert.equal(result.md5, createHash('md5').update(content).digest('hex'));
    assert.equal(result.stamp.size, BigInt(size));
  }
});

test('links, pipes, directories and missing files have none', (t) => {
  const directory = folder(t);
  writeFileSync(path.join(directory, 'file'), '');
  symlinkSync('file', path.join(directory, 'link'));
  execFileSync('mkfifo', [path.join(directory, 'pipe')]);
  const problemOf = (name: string) => {
    const result = digestFile(path.join(directory, name), 'sha256', false);
    return 'problem' in result ? result.problem : 'digested';
  };
  assert.equal(problemOf('link'), 'it is no regular file');
  assert.equal(problemOf('pipe'), 'it is no regular file');
  assert.equal(problemOf('.'), 'it is no regular file');
  assert.equal(problemOf('none'), 'there is no such file or directory');
  assert.equal(problemOf('file'), 'digested');
});
