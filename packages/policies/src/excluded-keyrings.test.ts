import assert from 'node:assert/strict';
import { test } from 'node:test';
import { excludedKeyringsWarning } from './excluded-keyrings.ts';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from './runtime-policy.ts';

function warningOf(changes: object): string | undefined {
  const decoded = decodeRuntimePolicy(JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...changes }));
  assert.ok(decoded.ok);
  return excludedKeyringsWarning(decoded.value);
}

const ima = (...ignored: readonly string[]) => ({ ignored_keyrings: ignored, log_hash_alg: 'sha1', dm_policy: null });

test('excludes of files alone are nothing to warn of', () => {
  assert.equal(warningOf({ excludes: [] }), undefined);
  assert.equal(warningOf({ excludes: ['/tmp/.*', '.*\\.pyc', '/\\.ima'] }), undefined);
});

test('an exclude that matches a keyring is named, be it one of Linux or of the policy', () => {
  assert.match(warningOf({ excludes: ['\\.ima$'] }) ?? '', /matches the keyrings \.ima, but excludes admit no keys/);
  const keyrings = { mine: ['a'.repeat(64)] };
  assert.match(warningOf({ excludes: ['mi'], keyrings }) ?? '', /keyrings mine, but/);
  assert.match(warningOf({ excludes: ['.*'] }) ?? '', /\.ima, \.evm, .*_evm, but/);
});

test('keyrings that are ignored are nothing to warn of', () => {
  assert.equal(warningOf({ excludes: ['\\.ima$'], ima: ima('.ima') }), undefined);
});
