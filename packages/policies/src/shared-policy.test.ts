import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { decodeRuntimePolicy, EMPTY_RUNTIME_POLICY_TEXT } from './runtime-policy.ts';
import { openSharedPolicy, type SharedPolicy, sharePolicy } from './shared-policy.ts';

const D = 'ab'.repeat(32);
const TEXT = JSON.stringify({
  ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT),
  meta: { version: 7, generator: 3 },
  digests: {
    '/a': [D],
    '/b': Array.from({ length: 20 }, (_, i) => `${i + 10}`.repeat(32)),
    '/\ud800': [D],
    ['__proto__']: [D],
  },
  excludes: ['/tmp/.*'],
  keyrings: { '.ima': [D] },
  ima: {
    ignored_keyrings: ['.machine'],
    log_hash_alg: 'sha256',
    dm_policy: { version: 1, match_on: 'name', rules: {} },
  },
  'ima-buf': { kernel_info: [D] },
  packages: { [D]: 'demo 1.0-1' },
});

test('a policy that another thread shares is the same policy, in the same memory', () => {
  const decoded = decodeRuntimePolicy(TEXT);
  assert.ok(decoded.ok);
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(sharePolicy(decoded.value));
  const received: SharedPolicy = receiveMessageOnPort(port2)?.message;
  port1.close();
  const opened = openSharedPolicy(received);
  const { digests, packages, excludes, ...rest } = decoded.value;
  const { digests: otherDigests, packages: otherPackages, excludes: otherExcludes, ...otherRest } = opened;
  assert.deepEqual(otherRest, rest);
  assert.deepEqual([...otherDigests], [...digests]);
  assert.deepEqual([...otherPackages], [...packages]);
  for (const path of ['/tmp/x', '/a']) assert.equal(otherExcludes.matches(path), excludes.matches(path));
  // What is written into the memory of one is read by the other.
  new Uint8Array(digests.shared.records).fill(0x2f, 4, 6);
  assert.deepEqual([...otherDigests][0], ['//', [D]]);
});
