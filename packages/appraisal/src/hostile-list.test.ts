import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { encodeKeyring } from '@keylime/ima/keyring';
import { signingFixture } from '@keylime/ima/signing-key.fixture';
import fc from 'fast-check';
import { failureEvent } from './event.ts';
import { appraiseLines, BOOT_LINE, policyWith } from './list.fixture.ts';

const key = signingFixture('P-256');
const policy = policyWith({
  'verification-keys': JSON.stringify(encodeKeyring([{ key: key.publicKey, keyId: key.keyId }])),
  ima: { dm_policy: { version: 1, match_on: 'name', rules: {} } },
});
const real = readFileSync(new URL('../../testing/vectors/debian12-uefi-vm/ima.txt', import.meta.url));

/** Every failure becomes an event whose index is one of the list. */
function judged(list: Uint8Array, quotedPcr: Uint8Array): void {
  const result = appraiseLines([], { list, policy, quotedPcr });
  assert.ok(result.failureCount > 0, 'a list that nobody quoted passes');
  for (const failure of result.failures) {
    const { index } = failureEvent(failure).context;
    if (index !== undefined) assert.ok(Number(index) < result.entryCount);
  }
}

const field = fc.oneof(
  fc.constantFrom(
    '10',
    '1'.repeat(40),
    '0'.repeat(40),
    'ima-ng',
    'ima-sig',
    'ima-buf',
    'evm-sig',
    'ima',
    'd-ng|n-ng|sig',
  ),
  fc.constantFrom(
    `sha256:${'ab'.repeat(32)}`,
    `verity:sha256:${'ab'.repeat(32)}`,
    'dm_table_load',
    '.ima',
    'boot_aggregate',
  ),
  fc.constant(key.sign(Buffer.alloc(32, 0xab)).toString('hex')),
  fc.string({ maxLength: 20 }),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('hex')),
);

test('no fields in whatever order make the judgement throw, or pass', () => {
  const line = fc.array(field, { maxLength: 12 }).map((fields) => fields.join(' '));
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), fc.uint8Array({ minLength: 32, maxLength: 32 }), (lines, quoted) =>
      judged(Buffer.from([BOOT_LINE, ...lines].join('\n'), 'latin1'), quoted),
    ),
    { numRuns: 300 },
  );
});

test('no bytes in the list of a real machine make the judgement throw, or pass', () => {
  fc.assert(
    fc.property(fc.nat(real.length), fc.uint8Array({ minLength: 1, maxLength: 30 }), (at, bytes) =>
      judged(Buffer.concat([real.subarray(0, at), bytes, real.subarray(at)]), Buffer.alloc(32, 1)),
    ),
    { numRuns: 60 },
  );
});
