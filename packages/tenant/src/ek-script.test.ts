import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { runEkScript } from './ek-script.ts';
import { TenantError } from './tenant-error.ts';

const variables = { AGENT_UUID: 'a', EK: 'pem', EK_TPM: 'tpm', EK_CERT: '', PROVKEYS: '{}', TPM_CERT_STORE: '/store' };

function folder(t: test.TestContext) {
  const workDir = mkdtempSync(path.join(tmpdir(), 'keylime-ek-script-'));
  t.after(() => rmSync(workDir, { recursive: true }));
  const script = (text: string, mode = 0o755): string => {
    writeFileSync(path.join(workDir, 'check'), text);
    chmodSync(path.join(workDir, 'check'), mode);
    return 'check';
  };
  const runScript = (name: string, timeLimitMs?: number) =>
    runEkScript({
      script: name,
      workDir,
      environment: { PATH: process.env.PATH, INHERITED: 'yes' },
      variables,
      ...(timeLimitMs ? { timeLimitMs } : {}),
    });
  const rejected = (promise: Promise<string>, message: RegExp) =>
    assert.rejects(promise, (error) => {
      assert.ok(error instanceof TenantError);
      assert.equal(error.code, 'ek_rejected');
      assert.match(error.message, message);
      return true;
    });
  return { workDir, script, runScript, rejected };
}

test('exit code 0 accepts; both outputs are returned; the environment is inherited', async (t) => {
  const { script, runScript } = folder(t);
  const output = await runScript(script('#!/bin/sh\necho "$INHERITED $EK"; echo err >&2\n'));
  assert.deepEqual(output.split('\n').toSorted(), ['err', 'yes pem']);
});

test('another exit code rejects with the output', async (t) => {
  const { script, runScript, rejected } = folder(t);
  await rejected(
    runScript(script('#!/bin/sh\necho bad maker; exit 3\n')),
    /failed to validate EK: bad maker \(exit code 3\)/,
  );
  await rejected(runScript(script('#!/bin/sh\nkill -9 $$\n')), /no output \(ended by SIGKILL\)/);
});

test('a script that is missing or cannot be started rejects', async (t) => {
  const { script, runScript, rejected } = folder(t);
  await rejected(runScript('absent'), /\/absent\) not found/);
  await rejected(runScript(script('#!/bin/sh\nexit 0\n', 0o644)), /not executable/);
  await rejected(runScript(script('#!/nonexistent/shell\n')), /cannot be started/);
});

test('a script that does not end rejects, and what it started is ended with it', async (t) => {
  const { workDir, script, runScript, rejected } = folder(t);
  await rejected(runScript(script('#!/bin/sh\nsleep 600 &\necho $! > pid\nwait\n'), 500), /did not end within 0\.5 s/);
  const pid = readFileSync(path.join(workDir, 'pid'), 'utf8').trim();
  const state = existsSync(`/proc/${pid}/stat`) ? readFileSync(`/proc/${pid}/stat`, 'utf8').split(' ')[2] : 'gone';
  assert.ok(state === 'gone' || state === 'Z', state);
});

test('no shell sees the name of the script', async (t) => {
  const { workDir, runScript, rejected } = folder(t);
  await rejected(runScript('check; touch pwned'), /not found/);
  assert.ok(!existsSync(path.join(workDir, 'pwned')));
});

test('a script that prints without end is cut, not collected', async (t) => {
  const { script, runScript } = folder(t);
  const output = await runScript(script('#!/bin/sh\nhead -c 1000000 /dev/zero | tr "\\\\0" x\n'));
  assert.equal(output.length, 65_536);
});
