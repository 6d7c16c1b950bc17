import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import { promisify } from 'node:util';

test('the example of the README does what it says', async () => {
  const readme = await readFile(new URL('../README.md', import.meta.url), 'utf8');
  const [, code = ''] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  const [, expected = ''] = /\n\/\/ (\{.*\})\n$/.exec(code) ?? [];
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module-typescript', '--eval', code], {
    cwd: import.meta.dirname,
  });
  assert.notEqual(expected, '');
  assert.equal(stdout.trim(), expected);
});
