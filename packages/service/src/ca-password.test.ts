import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { PasswordError } from './ask-password.ts';
import { askCaPassword, serviceCaPassword } from './ca-password.ts';
import { openLog } from './log.ts';

const log = openLog({ name: 'test', destination: { write: () => true } });
const never = async (): Promise<string> => assert.fail('nobody is asked');
const isPasswordError = (error: unknown) => error instanceof PasswordError && error.code === 'no_password';

test('the word default is a question to a person and a password of a service', async () => {
  const settings = { password: 'default', password_file: '' };
  assert.equal(await askCaPassword(settings, log, async () => 'typed'), 'typed');
  await assert.rejects(
    askCaPassword(settings, log, async () => ''),
    isPasswordError,
  );
  assert.equal(serviceCaPassword(settings), 'default');
});

test('a password that is configured is not asked for, and a file comes before it', async (t) => {
  assert.equal(await askCaPassword({ password: 'set', password_file: '' }, log, never), 'set');
  const dir = mkdtempSync(path.join(tmpdir(), 'keylime-password-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const file = path.join(dir, 'password');
  writeFileSync(file, 'from a file\nmore\n');
  const settings = { password: 'set', password_file: file };
  assert.equal(await askCaPassword(settings, log, never), 'from a file');
  assert.equal(serviceCaPassword(settings), 'from a file');
  writeFileSync(file, '\n');
  assert.throws(() => serviceCaPassword(settings), isPasswordError);
  await assert.rejects(askCaPassword({ ...settings, password_file: `${file}.absent` }, log, never), isPasswordError);
});
