import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyWarnings } from './policy-warnings.ts';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from './runtime-policy.ts';

function warningsOf(changes: object): readonly string[] {
  const decoded = decodeRuntimePolicy(JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...changes }));
  assert.ok(decoded.ok);
  return policyWarnings(decoded.value);
}

const ima = (...ignored: readonly string[]) => ({ ignored_keyrings: ignored, log_hash_alg: 'sha1', dm_policy: null });

test('excludes of files alone are nothing to warn of', () => {
  assert.deepEqual(warningsOf({ excludes: [] }), []);
  assert.deepEqual(warningsOf({ excludes: ['/tmp/.*', '.*\\.pyc', '/\\.ima', '/usr/'] }), []);
});

test('an exclude that matches a keyring is named, be it one of Linux or of the policy', () => {
  assert.match(warningsOf({ excludes: ['\\.ima$'] }).join(), /matches the keyrings \.ima, but excludes admit no keys/);
  const keyrings = { mine: ['a'.repeat(64)] };
  assert.match(warningsOf({ excludes: ['mi'], keyrings }).join(), /keyrings mine, but/);
  assert.match(warningsOf({ excludes: ['.*'] }).join(), /\.ima, \.evm, .*_evm, but/);
});

test('keyrings that are ignored are nothing to warn of', () => {
  assert.deepEqual(warningsOf({ excludes: ['\\.ima$'], ima: ima('.ima') }), []);
});

test('an exclude list that matches every path is told, and how it may have come to that', () => {
  for (const pattern of ['', '.*', '/', '^/', '/tmp|', '/?']) {
    assert.match(
      warningsOf({ excludes: ['/tmp/', pattern] }).join(),
      /matches every path, so no file is judged/,
      pattern,
    );
  }
});
