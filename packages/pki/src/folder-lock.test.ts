import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { withFolderLock } from './folder-lock.ts';
import { PkiError } from './pki-error.ts';

const dir = await mkdtemp(join(tmpdir(), 'keylime-lock-'));
const path = join(dir, '.lock');
after(() => rm(dir, { recursive: true }));

const DEAD_PID = 2 ** 22 + 1; // above the largest number a Linux process can have

test('only one works at a time, and the lock goes away, also after a failure', async () => {
  let inside = 0;
  const work = async () => {
    inside += 1;
    assert.equal(inside, 1);
    for (let turns = 0; turns < 20; turns++) await turn();
    inside -= 1;
  };
  await Promise.all([withFolderLock(dir, work), withFolderLock(dir, work), withFolderLock(dir, work)]);
  await assert.rejects(
    withFolderLock(dir, () => Promise.reject(new Error('failed'))),
    /failed/,
  );
  assert.equal(existsSync(path), false);
});

test('the lock of a process that died is taken over', async () => {
  await writeFile(path, `${DEAD_PID} ${hostname()} x\n`);
  assert.equal(await withFolderLock(dir, async () => 'done'), 'done');
});

test('the lock of another machine is taken over only when it is old', async () => {
  await writeFile(path, `1 elsewhere x\n`);
  await assert.rejects(
    withFolderLock(dir, async () => 'done', 100),
    (error: unknown) => error instanceof PkiError && error.code === 'lock_timeout' && error.message.includes(path),
  );
  const old = new Date(Date.now() - 120_000);
  await utimes(path, old, old);
  assert.equal(await withFolderLock(dir, async () => 'done'), 'done');
});
