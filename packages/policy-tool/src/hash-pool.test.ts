import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** In a process of its own: the test runner would keep one alive that has nothing left to do. */
const PROGRAM = `
import { openHashPool } from ${JSON.stringify(new URL('./hash-pool.ts', import.meta.url).href)};
const file = ${JSON.stringify(fileURLToPath(import.meta.url))};
const pool = openHashPool(1);
const task = { kind: 'sum', file, algorithm: 'sha256' };
await pool.run(task);
pool.run(task).catch(() => {});
// The answer is there before the pool is closed, and is handed over afterwards.
Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
await pool.close();
console.log('closed');
`;

test('a pool that is closed while a thread answers is closed, and the program goes on', async () => {
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', PROGRAM]);
  assert.equal(stdout, 'closed\n');
});
