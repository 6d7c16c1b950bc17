import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { readSecretKeys, SecretVaultError, secretVault } from './secret-vault.ts';

const one = parseAgentId('one') as AgentId;
const other = parseAgentId('other') as AgentId;
const [oldKey, newKey] = [randomBytes(32), randomBytes(32)];
const share = randomBytes(32);
const code = (expected: string) => (error: unknown) => error instanceof SecretVaultError && error.code === expected;

let folder: string;
before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'key-share-'));
});
after(() => rm(folder, { recursive: true }));

test('a sealed share opens again, shows nothing of the share, and never looks the same', () => {
  const vault = secretVault([oldKey], 'v1');
  const sealed = vault.seal(one, 'key share', share);
  assert.deepEqual(vault.open(one, 'key share', sealed), share);
  assert.ok(!sealed.includes(share.toString('base64').slice(0, 8)));
  assert.notEqual(vault.seal(one, 'key share', share), sealed);
});

test('a share of another agent, of another verifier, or that was changed does not open', () => {
  const vault = secretVault([oldKey], 'v1');
  const sealed = vault.seal(one, 'key share', share);
  assert.throws(() => vault.open(other, 'key share', sealed), code('secret_damaged'));
  assert.throws(() => secretVault([oldKey], 'v2').open(one, 'key share', sealed), code('secret_damaged'));
  assert.throws(() => vault.open(one, 'revocation key', sealed), code('secret_damaged'));
  const start = sealed.indexOf('.') + 1;
  const bytes = Buffer.from(sealed.slice(start), 'base64');
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at] = (changed[at] ?? 0) ^ 1;
    assert.throws(
      () => vault.open(one, 'key share', sealed.slice(0, start) + changed.toString('base64')),
      code('secret_damaged'),
    );
  }
  for (const cut of [sealed.slice(0, start), sealed.slice(0, start + 8)]) {
    assert.throws(() => vault.open(one, 'key share', cut), code('secret_damaged'));
  }
});

test('a new key in front seals, the old one still opens, and without it the share stays closed', () => {
  const sealed = secretVault([oldKey], 'v1').seal(one, 'key share', share);
  const rotated = secretVault([newKey, oldKey], 'v1');
  assert.ok(rotated.isOutdated(sealed));
  assert.deepEqual(rotated.open(one, 'key share', sealed), share);
  const fresh = rotated.seal(one, 'key share', rotated.open(one, 'key share', sealed));
  assert.ok(!rotated.isOutdated(fresh));
  const without = secretVault([newKey], 'v1');
  assert.deepEqual(without.open(one, 'key share', fresh), share);
  assert.throws(() => without.open(one, 'key share', sealed), code('key_not_configured'));
});

test('the default key is made once, for its owner alone', async () => {
  const [made] = await readSecretKeys(['default'], folder);
  assert.equal(made.length, 32);
  assert.equal((await stat(path.join(folder, 'secret.key'))).mode & 0o777, 0o600);
  assert.deepEqual(await readSecretKeys([], folder), [made]);
});

test('a key file that is missing or short is refused by its name', async () => {
  await writeFile(path.join(folder, 'short'), 'AAAA');
  await assert.rejects(readSecretKeys(['missing'], folder), code('key_file_unusable'));
  await assert.rejects(readSecretKeys(['default', 'short'], folder), /secret_keys: .*short cannot be used: it must/);
  assert.equal(await readFile(path.join(folder, 'short'), 'utf8'), 'AAAA');
});
