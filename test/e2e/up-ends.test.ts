import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';

const ROOT = join(import.meta.dirname, '../..');
const END_WITHIN_MS = 20_000;

/** Ids of processes that have `folder` in their command line or their environment: all programs of a trial do. */
const processesOf = (folder: string): readonly number[] =>
  readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) =>
      [`/proc/${pid}/cmdline`, `/proc/${pid}/environ`].some((file) => readIfThere(file).includes(folder)),
    )
    .map(Number);

function readIfThere(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return ''; // the process ended meanwhile, or is none of ours
  }
}

/** Work directories of the agents of a trial that runs: tests of other trials may run at the same time. */
const keylimeDirsOf = (folder: string): readonly string[] => [
  ...new Set(
    processesOf(folder).flatMap((pid) => {
      const [, found] = /KEYLIME_DIR=(\/dev\/shm\/[^\0]+)/.exec(readIfThere(`/proc/${pid}/environ`)) ?? [];
      return found ?? [];
    }),
  ),
];

/** Starts `npm run up` as a person does, in a process group of its own, and waits until `text` is printed. */
async function startUp(folder: string, text: string): Promise<ChildProcess> {
  const child = spawn('npm', ['run', 'up', '--', '--folder', folder], {
    cwd: ROOT,
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  // Read on to the end: a closed pipe would end it, too.
  const { stdout } = child;
  await new Promise<void>((resolve, reject) => {
    let output = '';
    stdout?.on('data', (chunk) => {
      output += String(chunk);
      if (output.includes(text)) resolve();
    });
    child.once('exit', () => reject(new Error(`npm run up ended before it printed ${text}:\n${output}`)));
  });
  return child;
}

for (const [how, end] of [
  ['SIGTERM to npm alone', (pid: number) => process.kill(pid, 'SIGTERM')],
  ['Ctrl-C, which goes to every program of the terminal', (pid: number) => process.kill(-pid, 'SIGINT')],
  ['the end of the terminal', (pid: number) => process.kill(-pid, 'SIGHUP')],
] as const) {
  test(`npm run up ends with all its programs and leaves nothing behind: ${how}`, async () => {
    const parent = mkdtempSync(join(tmpdir(), 'up-ends-'));
    const folder = join(parent, 'trial');
    const child = await startUp(folder, 'Enrolled');
    try {
      const keylimeDirs = keylimeDirsOf(folder);
      assert.notDeepEqual(keylimeDirs, []);
      assert.ok(processesOf(folder).length >= 10, 'npm, its two programs, three TPMs, three agents, two services');
      const exited = once(child, 'exit');
      end(child.pid ?? 0);
      await exited;
      const deadline = Date.now() + END_WITHIN_MS;
      const left = () => [...processesOf(folder), ...(existsSync(folder) ? [folder] : [])];
      while (left().length > 0 && Date.now() < deadline) await sleep(50);
      assert.deepEqual(left(), []);
      assert.deepEqual(keylimeDirs.filter(existsSync), []);
    } finally {
      for (const pid of processesOf(folder)) process.kill(pid, 'SIGKILL');
      rmSync(parent, { recursive: true, force: true });
    }
  });
}

test('kill -9 leaves no program of npm run up behind, and nothing in memory', async () => {
  const parent = mkdtempSync(join(tmpdir(), 'up-ends-'));
  const folder = join(parent, 'trial');
  const child = await startUp(folder, 'Enrolled');
  try {
    const keylimeDirs = keylimeDirsOf(folder);
    assert.notDeepEqual(keylimeDirs, []);
    const exited = once(child, 'exit');
    // The program itself and whoever stands between it and npm: none of them can do anything any more.
    const own = processesOf(folder).filter((pid) => /\0up\0|packages\/up\//.test(readIfThere(`/proc/${pid}/cmdline`)));
    for (const pid of own) process.kill(pid, 'SIGKILL');
    await exited;
    const deadline = Date.now() + END_WITHIN_MS;
    const left = () => [...processesOf(folder), ...keylimeDirs.filter(existsSync)];
    while (left().length > 0 && Date.now() < deadline) await sleep(50);
    assert.deepEqual(left(), []);
  } finally {
    for (const pid of processesOf(folder)) process.kill(pid, 'SIGKILL');
    rmSync(parent, { recursive: true, force: true });
  }
});
