import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';

test('compiled code is looked for beside the npm packages and never among temporary files', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'require-node-'));
  try {
    const print = 'process.stdout.write(String((await import("node:module")).getCompileCacheDir()))';
    const code = `await import('@keylime/service/require-node'); ${print}`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', code], {
      cwd: import.meta.dirname,
      env: { ...process.env, TMPDIR: folder },
    });
    assert.ok(stdout.startsWith(path.join(import.meta.dirname, '../../../node_modules/.cache/keylime')), stdout);
    assert.deepEqual(await readdir(folder), []);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
