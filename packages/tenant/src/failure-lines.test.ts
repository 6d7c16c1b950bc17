import assert from 'node:assert/strict';
import test from 'node:test';
import { failureLines } from './failure-lines.ts';

test('a failure is one line that says where and why', () => {
  const context = {
    message: "Hashes for file /usr/bin/tool don't match",
    index: 17,
    path: '/usr/bin/tool',
    template: 'ima-sig',
    first_index: 3,
    got: 'bb',
    got_package: 'tool 1.1-1',
    expected: ['a1', 'a2', 'a3', 'a4'],
    expected_packages: ['tool 1.0-1'],
    listed_for: ['/usr/bin/copy'],
    signature: 'key_unknown',
    key_id: '93a5d39b',
  };
  assert.deepEqual(failureLines({ last_failures: [{ event_id: 'ima.x', context }] }), [
    "ima.x: Hashes for file /usr/bin/tool don't match; entry 17, ima-sig; first seen at entry 3; found bb; which is of tool 1.1-1; expected a1 or a2 or a3 and 1 more; of tool 1.0-1; the digest found is listed for /usr/bin/copy; signature: key unknown; key 93a5d39b",
  ]);
});

test('what was left out is counted, and where the verifier began to look is said', () => {
  const context = {
    message: 'm',
    index: 17,
    first_index: 16,
    judged_from: 12,
    expected: ['a1', 'a2', 'a3', 'a4'],
    expected_more: 5,
    listed_for: ['/x'],
    listed_for_more: 2,
    signature: 'key_unknown',
    key_serial: '1f00',
    more_failures: 80,
  };
  assert.deepEqual(failureLines({ last_failures: [{ event_id: 'ima.x', context }] }), [
    'ima.x: m; entry 17; first seen at entry 16; entries before 12 were judged earlier; expected a1 or a2 or a3 and 6 more; the digest found is listed for /x and 2 more; signature: key unknown; certificate 1f00; and 80 more failures',
  ]);
});

test('a failure of a boot names the event of its log', () => {
  const context = {
    message: 'The boot is not as measured-boot policy strict wants it: kernel cmdline unexpected',
    index: 38,
    pcr: 8,
    event_type: 'EV_IPL',
    got: 'init=/bin/sh',
    expected: 'ro quiet',
  };
  assert.deepEqual(failureLines({ last_failures: [{ event_id: 'measured_boot.policy_strict', context }] }), [
    'measured_boot.policy_strict: The boot is not as measured-boot policy strict wants it: kernel cmdline unexpected; event 38, EV_IPL, PCR 8; found init=/bin/sh; expected ro quiet',
  ]);
});

test('failures without a place, and records of verifiers that tell none, are fine', () => {
  const failure = { event_id: 'ima.pcr_mismatch', context: { message: 'm' } };
  assert.deepEqual(failureLines({ last_failures: [failure, { event_id: 'x' }, 1] }), ['ima.pcr_mismatch: m', 'x: ']);
  assert.deepEqual(failureLines({}), []);
  assert.deepEqual(failureLines({ last_failures: null }), []);
});
