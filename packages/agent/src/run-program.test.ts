import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { MAX_LOGGED_BYTES, runProgram } from './run-program.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-run-'));
after(() => rmSync(folder, { recursive: true }));

async function shell(script: string, options: { readonly timeoutMs?: number; readonly signal?: AbortSignal } = {}) {
  const lines: string[] = [];
  const end = await runProgram({
    path: '/bin/sh',
    args: ['-c', script],
    cwd: folder,
    timeoutMs: 10_000,
    onLine: (stream, line) => lines.push(`${stream}: ${line}`),
    ...options,
  });
  return { end, lines };
}

const isAlive = (pid: number): boolean => {
  try {
    // A zombie that nobody reaps answers to signals; its state tells.
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
};

test('exit status, lines of both streams and the working directory', async () => {
  const { end, lines } = await shell('pwd; echo problem >&2; printf "no newline"; exit 3');
  assert.deepEqual(end, { kind: 'exited', status: 3 });
  assert.deepEqual(lines.toSorted(), ['stderr: problem', `stdout: ${folder}`, 'stdout: no newline']);
});

test('[MUST] a program that hangs is stopped with all that it started', async () => {
  const { end, lines } = await shell('sleep 600 & echo $!; wait', { timeoutMs: 300 });
  assert.deepEqual(end, { kind: 'timed_out' });
  const pid = Number(lines[0]?.replace('stdout: ', ''));
  assert.ok(pid > 0);
  // Its new parent reaps it a moment later; without the kill it would sleep for ten minutes.
  for (let tries = 0; tries < 500 && isAlive(pid); tries++) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal(isAlive(pid), false);
});

test('[MUST] a program that ignores the polite signal is killed', async () => {
  const { end } = await shell('trap "" TERM; echo on; while :; do sleep 0.05; done', { timeoutMs: 300 });
  assert.deepEqual(end, { kind: 'timed_out' });
});

test('[MUST] endless output neither blocks the program nor fills the log', async () => {
  const { end, lines } = await shell('head -c 3000000 /dev/zero | tr "\\0" x | fold -w 1000; echo done > finished');
  assert.deepEqual(end, { kind: 'exited', status: 0 });
  assert.equal(existsSync(join(folder, 'finished')), true);
  assert.ok(lines.join('').length < MAX_LOGGED_BYTES + 2_000, String(lines.join('').length));
  assert.match(lines.at(-1) ?? '', /^stderr: \(2[67]\d{5} bytes more were left out\)$/);
});

test('a line without end is cut', async () => {
  const { lines } = await shell('head -c 5000 /dev/zero | tr "\\0" x');
  assert.equal(lines[0], `stdout: ${'x'.repeat(2000)}…`);
});

test('a program left behind goes on, and its hold on the output is not waited for', async () => {
  const startedAt = performance.now();
  const { end, lines } = await shell('sleep 30 & echo $!');
  assert.deepEqual(end, { kind: 'exited', status: 0 });
  assert.ok(performance.now() - startedAt < 5_000);
  const pid = Number(lines[0]?.replace('stdout: ', ''));
  assert.equal(isAlive(pid), true);
  process.kill(pid, 'SIGKILL');
});

test('the end of the agent ends the program', async () => {
  const stopping = new AbortController();
  const running = shell('echo on; sleep 600', { signal: stopping.signal });
  stopping.abort();
  assert.deepEqual((await running).end, { kind: 'stopped' });
});

test('a program that is not there, and one that is killed', async () => {
  const missing = { path: join(folder, 'missing'), args: [], cwd: folder, timeoutMs: 1000, onLine: () => {} };
  const end = await runProgram(missing);
  assert.equal(end.kind, 'not_started');
  assert.match(end.kind === 'not_started' ? end.reason : '', /ENOENT/);
  assert.deepEqual((await shell('kill -9 $$')).end, { kind: 'killed', signal: 'SIGKILL' });
});

test('[MUST] settings of the agent are not in its environment', async () => {
  process.env.KEYLIME_AGENT_PAYLOAD_KEY_PASSWORD = 'secret';
  try {
    assert.deepEqual((await shell('env | grep KEYLIME_AGENT; echo end')).lines, ['stdout: end']);
  } finally {
    delete process.env.KEYLIME_AGENT_PAYLOAD_KEY_PASSWORD;
  }
});
