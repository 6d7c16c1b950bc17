import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { decryptPayload } from '@keylime/payload/encryption';
import { parseKeyFile } from './key-file.ts';
import { TenantError } from './tenant-error.ts';

const program = fileURLToPath(new URL('../bin/keylime_userdata_encrypt.mjs', import.meta.url));

function run(t: TestContext, ...argv: readonly string[]) {
  const cwd = mkdtempSync(path.join(tmpdir(), 'keylime-encrypt-'));
  t.after(() => rmSync(cwd, { recursive: true }));
  writeFileSync(path.join(cwd, 'plain.txt'), 'what nobody reads');
  writeFileSync(path.join(cwd, 'content_keys.txt'), 'old');
  chmodSync(path.join(cwd, 'content_keys.txt'), 0o644);
  const { status, stdout } = spawnSync(process.execPath, [program, ...argv], { cwd, encoding: 'utf8' });
  return { cwd, status, stdout };
}

test('keylime_userdata_encrypt writes keys and payload for their owner alone', (t) => {
  const { cwd, status, stdout } = run(t, 'plain.txt');
  assert.equal(status, 0);
  assert.equal(stdout, 'Writing keys to content_keys.txt\nWriting encrypted data to content_payload.txt\n');
  const read = (name: string) => readFileSync(path.join(cwd, name), 'latin1');
  for (const name of ['content_keys.txt', 'content_payload.txt']) {
    assert.equal(statSync(path.join(cwd, name)).mode & 0o777, 0o600, name);
  }
  const { k } = parseKeyFile(read('content_keys.txt'), 'content_keys.txt');
  const opened = decryptPayload(k, Buffer.from(read('content_payload.txt'), 'base64'));
  assert.equal(opened.ok && opened.value.toString(), 'what nobody reads');
});

test('keylime_userdata_encrypt without a file ends with 255', (t) => {
  assert.equal(run(t).status, 255);
  assert.equal(run(t, 'absent.txt').status, 255);
});

const keyFileError = (text: string): string => {
  try {
    parseKeyFile(text, 'keys');
  } catch (error) {
    assert.ok(error instanceof TenantError && error.code === 'payload_invalid');
    return error.message;
  }
  return 'accepted';
};

test('a key file takes its halves in either order and shows nothing of itself when it is wrong', () => {
  const line = (byte: number, size = 32) => Buffer.alloc(size, byte).toString('base64');
  assert.equal(parseKeyFile(`${line(3)}\n${line(1)}\n${line(2)}\n`, 'keys').k[0], 3);
  assert.equal(parseKeyFile(`${line(3)}\r\n${line(2)}\r\n${line(1)}`, 'keys').k[0], 3);
  for (const [text, why] of [
    ['', /it has 0 lines/],
    [`${line(3)}\n${line(1)}\n`, /it has 2 lines/],
    [`${line(3)}\n${line(1)}\nnot base64`, /line 3 is not 16 or 32 bytes/],
    [`${line(3, 24)}\n${line(1, 24)}\n${line(2, 24)}`, /line 1 is not 16 or 32 bytes/],
    [`${line(3, 16)}\n${line(1)}\n${line(2)}`, /different sizes/],
    [`${line(4)}\n${line(1)}\n${line(2)}`, /do not make the key/],
  ] as const) {
    const message = keyFileError(text);
    assert.match(message, why);
    assert.ok(!message.includes(line(1)));
  }
});
