import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const main = fileURLToPath(new URL('../../packages/up/src/main.ts', import.meta.url));

function up(
  ...args: readonly string[]
): Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 1, stdout, stderr });
    });
  });
}

test('npm run up -- --check --json: registered, enrolled, attested, tampered with, detected, notified, acted upon by peers, and another boot caught', async () => {
  const parent = await mkdtemp(join(tmpdir(), 'up-'));
  const folder = join(parent, 'trial');
  try {
    const { code, stdout, stderr } = await up('--check', '--json', '--keep', '--patience', '20', '--folder', folder);
    assert.equal(code, 0, stderr);
    const result = JSON.parse(stdout) as Record<string, unknown>;
    assert.equal(result.ok, true);
    for (const name of [
      'registered_ms',
      'enrolled_ms',
      'first_pass_ms',
      'bootstrap_ms',
      'detected_ms',
      'notified_ms',
      'reported_ms',
      'peer_notified_ms',
      'boot_detected_ms',
    ]) {
      assert.equal(typeof result[name], 'number', name);
    }
    assert.ok(!Number.isNaN(Date.parse(String(result.tamper_at))));
    assert.equal(result.event_id, 'ima.validation.ima-ng.not_in_allowlist');
    assert.equal(result.message, 'File not found in allowlist: /usr/local/bin/unknown');
    assert.equal(result.boot_event_id, 'measured_boot.policy_strict');
    assert.equal(result.boot_found, '/boot/vmlinuz root=LABEL=ROOT ro init=/bin/sh');
    // What holds secrets is for its owner only.
    const secret = /(-private\.pem|\.sqlite(-wal)?|private\.yml)$/;
    for (const file of await readdir(folder, { recursive: true })) {
      if (!secret.test(file)) continue;
      const { mode } = await stat(join(folder, file));
      assert.equal(mode & 0o077, 0, file);
    }
  } finally {
    await rm(parent, { recursive: true, force: true });
  }
});

test('an option that makes no sense is refused in one line', async () => {
  const { code, stderr } = await up('--interval', 'soon');
  assert.equal(code, 1);
  assert.match(stderr, /--interval takes seconds/);
});
