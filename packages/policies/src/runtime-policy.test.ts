import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyCache } from './policy-cache.ts';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT, runtimePolicyChecksum } from './runtime-policy.ts';

const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';

function policy(changes: Record<string, unknown> = {}): string {
  return JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...changes });
}

function problems(text: string): string[] {
  const decoded = decodeRuntimePolicy(text);
  return decoded.ok ? [] : decoded.problem.map(({ kind, path, message }) => `${kind} ${path.join('/')}: ${message}`);
}

/** The key of 03 section 6.3 of the reference. */
const EXAMPLE_KEY =
  'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFOoNhXDpHbUAqVmVuhYLFNXjdynvNA/f2WtlF7KhEV7WJZjM/qx2K7fZ1l+1OHFUQMFKpTUA58J6mlG1XgtABQ==';

test('a policy is indexed by name', () => {
  const many = Array.from({ length: 20 }, (_, i) => String(i).padStart(40, '0'));
  const text = policy({
    meta: { version: 1, generator: 3, timestamp: '2026-02-03 10:11:12.000000', comment: 'unknown members are allowed' },
    digests: { '/opt/demo/hello': [D], '/opt/many': many, ['__proto__']: [D] },
    excludes: ['/tmp/.*'],
    keyrings: { '.ima': [D] },
    ima: {
      ignored_keyrings: ['.machine'],
      log_hash_alg: 'sha256',
      dm_policy: { version: 1, match_on: 'name', rules: {} },
    },
    'ima-buf': { kernel_info: [D] },
    'verification-keys': JSON.stringify({ pubkeys: [EXAMPLE_KEY], keyids: [2477118363] }),
    packages: { [D]: 'demo 1.0-1' },
  });
  const decoded = decodeRuntimePolicy(text);
  assert.ok(decoded.ok, JSON.stringify(decoded));
  const { digests, excludes, keyrings, buffers, ignoredKeyrings, logHashAlgorithm, dmPolicy, checksum } = decoded.value;
  assert.deepEqual([...digests.keys()], ['/opt/demo/hello', '/opt/many', '__proto__']);
  assert.equal(digests.includes('/opt/many', many[19] ?? ''), true);
  assert.equal(digests.includes('/opt/many', D), false);
  assert.equal(keyrings.includes('.ima', D), true);
  assert.equal(buffers.includes('kernel_info', D), true);
  assert.deepEqual([excludes.matches('/tmp/x'), excludes.matches('/var/tmp/x')], [true, false]);
  assert.deepEqual(
    [[...ignoredKeyrings], logHashAlgorithm, dmPolicy],
    [['.machine'], 'sha256', { matchOn: 'name', rules: [] }],
  );
  assert.deepEqual(
    [[...decoded.value.verificationKeys.keys()], [...decoded.value.packages]],
    [[2477118363], [[D, ['demo 1.0-1']]]],
  );
  assert.equal(checksum, runtimePolicyChecksum(text));
});

test('the empty policy is a policy that lists nothing', () => {
  const decoded = decodeRuntimePolicy(EMPTY_RUNTIME_POLICY_TEXT);
  assert.ok(decoded.ok);
  assert.deepEqual(
    [decoded.value.digests.size, decoded.value.generator, decoded.value.excludes.matches('')],
    [0, 1, false],
  );
});

const long = `${'x'.repeat(118)}`;
for (const [text, expected] of [
  ['{', ['not_json : Runtime policy is not valid JSON!']],
  ['[]', ["schema : [] is not of type 'object'"]],
  [
    '{"payload": "e30=", "signatures": []}',
    ['signed : this is a signed policy (DSSE envelope): verify its signature and take the policy out of it first'],
  ],
  [
    policy({ meta: {} }),
    ["schema meta: 'version' is a required property", "schema meta: 'generator' is a required property"],
  ],
  [
    policy({ meta: { version: -1, generator: 4, timestamp: 1 } }),
    [
      'schema meta/version: -1 is less than the minimum of 0',
      'schema meta/generator: 4 is greater than the maximum of 3',
      "schema meta/timestamp: 1 is not of type 'string'",
    ],
  ],
  [policy({ release: true }), ["schema release: True is not of type 'integer'"]],
  [policy({ release: 1.5 }), ["schema release: 1.5 is not of type 'integer'"]],
  [policy({ digests: { '/a': [] } }), ['schema digests//a: [] should be non-empty']],
  [policy({ digests: { '/a': D } }), [`schema digests//a: '${D}' is not of type 'array'`]],
  [
    policy({ digests: { '/a': [D.toUpperCase()] } }),
    [`schema digests//a/0: '${D.toUpperCase()}' does not match '^[0-9a-f]{40,128}$'`],
  ],
  [
    policy({ digests: { '/a': [D, `sha256:${D}`] } }),
    [`schema digests//a/1: 'sha256:${D}' does not match '^[0-9a-f]{40,128}$'`],
  ],
  [policy({ digests: { '/a': [1] } }), ["schema digests//a/0: 1 is not of type 'string'"]],
  [
    policy({ digests: { '/a': [`${long}xyz`] } }),
    [`schema digests//a/0: '${long}… does not match '^[0-9a-f]{40,128}$'`],
  ],
  [policy({ excludes: [null] }), ["schema excludes/0: None is not of type 'string'"]],
  [
    policy({ excludes: ['/ok', 'a(?=b)'] }),
    ["exclude excludes/1: exclude pattern 1 'a(?=b)': look-ahead is not supported at position 1"],
  ],
  [
    policy({ ima: { ignored_keyrings: [], log_hash_alg: 'md5', dm_policy: 1 } }),
    [
      "schema ima/log_hash_alg: 'md5' is not one of ['sha1', 'sha256', 'sha384', 'sha512']",
      "schema ima/dm_policy: 1 is not of type 'object'",
    ],
  ],
  [policy({ 'verification-keys': 'null' }), ["schema verification-keys: None is not of type 'object'"]],
  [
    policy({ 'verification-keys': '{"keyids": ["1"]}' }),
    [
      "schema verification-keys: 'pubkeys' is a required property",
      "schema verification-keys/keyids/0: '1' is not of type 'integer'",
    ],
  ],
  [
    policy({ 'verification-keys': '{"pubkeys": ["AAAA"], "keyids": []}' }),
    ['schema verification-keys: key 0 is not a public key in DER'],
  ],
  [policy({ packages: { [D]: 1 } }), [`schema packages/${D}: 1 is not of type 'string'`]],
  [policy({ 'verification-keys': 'x' }), ['schema verification-keys: is not the JSON text of a keyring']],
] as const) {
  test(`a policy is refused: ${expected[0].slice(0, 90)}`, () => assert.deepEqual(problems(text), expected));
}

test('an empty object lacks its eight members, the first one named first as ever', () => {
  const found = problems('{}');
  assert.equal(found[0], "schema : 'meta' is a required property");
  assert.equal(found.length, 8);
});

test('a policy full of mistakes is refused with the first hundred', () => {
  const digests = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`/f${i}`, ['zz']]));
  assert.equal(problems(policy({ digests })).length, 100);
});

test('a policy of 20 megabytes is decoded and indexed', () => {
  const digests = Object.fromEntries(
    Array.from({ length: 140_000 }, (_, i) => [
      `/usr/share/some/longer/directory/name-of-a-package/file-${i}`,
      [i.toString(16).padStart(64, '0')],
    ]),
  );
  const text = policy({ digests });
  assert.ok(text.length > 18_000_000);
  const decoded = decodeRuntimePolicy(text);
  assert.equal(decoded.ok && decoded.value.digests.size, 140_000);
});

test('a process decodes each policy once and forgets those not used for longest', () => {
  const cache = policyCache(2);
  const [a, b, c] = [policy({ release: 1 }), policy({ release: 2 }), policy({ release: 3 })];
  const first = cache.decode(a);
  assert.ok(first.ok);
  assert.equal(cache.find(runtimePolicyChecksum(a)), first.value);
  cache.decode(b);
  const again = cache.decode(a);
  assert.equal(again.ok && again.value, first.value);
  cache.decode(c);
  assert.equal(cache.find(runtimePolicyChecksum(b)), undefined);
  assert.equal(cache.find(runtimePolicyChecksum(a)), first.value);
  assert.equal(cache.decode('{}').ok, false);
  assert.equal(cache.find(runtimePolicyChecksum('{}')), undefined);
});
