import { randomBytes } from 'node:crypto';
import { link, open, readFile, rename, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '@keylime/core/coded-error';
import { PkiError } from './pki-error.ts';

/** A holder that finished no work in this time is gone: issuing takes a second or two. */
const STALE_AFTER_MS = 60_000;
const POLL_MS = 25;

/**
 * Runs `work` while no other process that uses this function on `dir` does: two services that start at once make one CA.
 * A lock whose holder died is taken over. Throws `PkiError` `lock_timeout` after `timeoutMs`.
 * The existing Python services do not take this lock.
 */
export async function withFolderLock<T>(dir: string, work: () => Promise<T>, timeoutMs = 90_000): Promise<T> {
  const path = join(dir, '.lock');
  const owner = `${process.pid} ${hostname()} ${randomBytes(8).toString('hex')}\n`;
  const deadline = Date.now() + timeoutMs;
  while (!(await tryLock(path, owner))) {
    if (Date.now() > deadline) {
      throw new PkiError('lock_timeout', `Another program holds ${path}. If none is running, delete that file.`);
    }
    await takeAwayStaleLock(path);
    await sleep(POLL_MS);
  }
  try {
    return await work();
  } finally {
    if ((await readLock(path)) === owner) await rm(path, { force: true });
  }
}

async function tryLock(path: string, owner: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx', 0o600);
    try {
      await file.writeFile(owner);
    } finally {
      await file.close();
    }
    return true;
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false;
    throw error;
  }
}

async function readLock(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function takeAwayStaleLock(path: string): Promise<void> {
  const owner = await readLock(path);
  if (owner === undefined || !(await isStale(path, owner))) return;
  const aside = `${path}.${randomBytes(8).toString('hex')}`;
  try {
    await rename(path, aside);
    // Somebody may have taken the stale lock away and locked again between our look and our rename: give it back.
    if ((await readLock(aside)) !== owner) await link(aside, path);
  } catch (error) {
    if (codeOf(error) !== 'ENOENT' && codeOf(error) !== 'EEXIST') throw error;
  } finally {
    await rm(aside, { force: true });
  }
}

async function isStale(path: string, owner: string): Promise<boolean> {
  const [pid, host] = owner.split(' ');
  // An empty lock is one that is being written, or whose writer was killed: only its age tells.
  if (pid && host === hostname() && !isRunning(Number(pid))) return true;
  try {
    return Date.now() - (await stat(path)).mtimeMs > STALE_AFTER_MS;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return false;
    throw error;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) !== 'ESRCH';
  }
}
