import assert from 'node:assert/strict';
import { test } from 'node:test';
import { convertAllowlist, convertRuntimePolicy } from './legacy-allowlist.ts';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from './runtime-policy.ts';

const SHA1 = 'f572d396fae9206628714fb2ce00f72e94f2258f';
const SHA256 = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
const timestamp = '2026-02-03 10:11:12.000000';

test('lines of digest and path become digests and keyrings; lines that say nothing are told', () => {
  const text = `${SHA1} /opt/demo/hello\n${SHA256}\t /opt/demo/hello\n\nsha256:${SHA256} /opt/two words\n${SHA256} %keyring:.ima\nodd\n`;
  const converted = convertAllowlist(text, { timestamp, excludes: '/tmp/.*\n\n# a comment\n/var/[a-z]+\n' });
  assert.ok(converted.ok, JSON.stringify(converted));
  const { policy, skipped } = converted.value;
  assert.deepEqual(policy, {
    ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT),
    meta: { version: 1, generator: 3, timestamp },
    digests: { '/opt/demo/hello': [SHA1, SHA256], '/opt/two words': [SHA256] },
    excludes: ['/tmp/.*', '/var/[a-z]+'],
    keyrings: { '.ima': [SHA256] },
  });
  assert.deepEqual(skipped, ['odd']);
  assert.deepEqual(Object.keys(policy), Object.keys(JSON.parse(EMPTY_RUNTIME_POLICY_TEXT)));
  assert.equal(decodeRuntimePolicy(JSON.stringify(policy)).ok, true);
});

test('a JSON allowlist keeps its members, and gets those that it lacks', () => {
  const old = {
    meta: { version: 4, generator: 'x' },
    release: 7,
    hashes: { '/bin/a': [SHA256] },
    excludes: ['/tmp'],
    ima: { ignored_keyrings: ['.machine'] },
  };
  const converted = convertAllowlist(JSON.stringify(old), { timestamp });
  assert.ok(converted.ok, JSON.stringify(converted));
  assert.deepEqual(converted.value.policy, {
    ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT),
    meta: { version: 1, generator: 3, timestamp },
    release: 7,
    digests: { '/bin/a': [SHA256] },
    excludes: ['/tmp'],
    ima: { ignored_keyrings: ['.machine'], log_hash_alg: 'sha1', dm_policy: null },
  });
});

test('a policy of an older version is brought up to date, one of this version keeps its meta', () => {
  const { meta: _, ...rest } = JSON.parse(EMPTY_RUNTIME_POLICY_TEXT);
  const metaOf = (meta: unknown) => {
    const converted = convertRuntimePolicy(JSON.stringify({ ...rest, meta }), { timestamp, excludes: 'x' });
    return converted.ok ? [converted.value.policy.meta, converted.value.policy.excludes] : converted.problem;
  };
  assert.deepEqual(metaOf({ version: 0, generator: 1 }), [{ version: 1, generator: 2, timestamp }, ['x']]);
  assert.deepEqual(metaOf(undefined), [{ version: 1, generator: 2, timestamp }, ['x']]);
  assert.deepEqual(metaOf({ version: 1, generator: 3, note: 'n' }), [{ version: 1, generator: 3, note: 'n' }, ['x']]);
});

for (const [text, problem] of [
  ['', /neither 'hashes' nor lines/],
  ['nothing\n', /neither 'hashes' nor lines/],
  ['{}', /neither 'hashes' nor lines/],
  ['{"digests": {}}', /a runtime policy already/],
  [`${SHA1} /x\n${SHA1.slice(1)} /y\n`, /line 2 does not begin with a digest/],
  ['{"hashes": {"/x": []}}', /should be non-empty/],
] as const) {
  test(`an allowlist is refused: ${text.trim() || 'nothing'}`, () => {
    const converted = convertAllowlist(text, { timestamp });
    assert.match(converted.ok ? 'accepted' : converted.problem, problem);
  });
}

test('comments of an allowlist are skipped, and said', () => {
  const converted = convertAllowlist(`# made by hand\n${SHA1} /x\n`, { timestamp });
  assert.deepEqual(converted.ok && converted.value.skipped, ['# made by hand']);
});

test('what a policy has besides stays, and an allowlist is not taken for one', () => {
  const policy = { ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), packages: { [SHA1]: 'a 1.0' } };
  const converted = convertRuntimePolicy(JSON.stringify(policy), { timestamp, excludes: 'x' });
  assert.deepEqual(converted.ok && converted.value.policy.packages, { [SHA1]: 'a 1.0' });
  const allowlist = convertRuntimePolicy(JSON.stringify({ meta: {}, hashes: { '/x': [SHA1] } }), { timestamp });
  assert.match(allowlist.ok ? 'accepted' : allowlist.problem, /has 'hashes', so it is an allowlist/);
});

test('an exclude list with a pattern that cannot be used is refused', () => {
  const converted = convertAllowlist(`${SHA1} /x\n`, { timestamp, excludes: '(a\n' });
  assert.match(converted.ok ? 'accepted' : converted.problem, /exclude pattern 0/);
});
