import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';

/**
 * Runs the first TypeScript example of the README above `testFolder`, as a reader would, and asserts that it prints what
 * the comment in its last line says.
 */
export async function assertReadmeExample(
  testFolder: string,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const readme = await readFile(path.join(testFolder, '..', 'README.md'), 'utf8');
  const [, code = ''] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  const [, expected = ''] = /\n\/\/ (\{.*\})\n$/.exec(code) ?? [];
  assert.notEqual(expected, '', 'the example ends with a comment that says what it prints');
  const args = ['--input-type=module-typescript', '--eval', code];
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    cwd: testFolder,
    env: { ...process.env, ...env },
  });
  assert.equal(stdout.trim(), expected);
}
