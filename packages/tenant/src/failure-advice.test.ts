import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failureEvent } from '@keylime/appraisal/event';
import type { Failure } from '@keylime/appraisal/failure';
import { adviceLines } from './failure-advice.ts';

test('there is something to do about a policy that is not signed', () => {
  const [line] = adviceLines({ last_failures: [{ event_id: 'internal.verifier.policy_not_signed', context: {} }] });
  assert.match(line ?? '', /keylime-policy sign runtime.*updateruntimepolicy.*reactivate/);
});

const at = { index: 3, path: '/usr/bin/tool', template: 'ima-sig' } as const;
const unlisted = { ...at, kind: 'ima_path_unknown', map: 'digests', actual: 'ab' } as const;

const changed = { ...at, kind: 'ima_digest_not_allowed', map: 'digests', actual: 'ab', expected: ['cd'] } as const;
/** Every failure of a measurement list, by what the advice must name. */
const failures: readonly (readonly [Failure, RegExp])[] = [
  [unlisted, /add it to the policy .*find out who put it there/],
  [{ ...unlisted, signature: { keyId: '93a5d39b', problem: 'key_unknown' } }, /--signature-verification-key/],
  [{ ...unlisted, explanation: { listedFor: ['/usr/bin/other'] } }, /a copy of a known file/],
  [{ ...unlisted, path: 'boot_aggregate' }, /measured-boot policy/],
  [{ ...unlisted, map: 'keyrings', path: '.ima' }, /keyring \.ima: .*ignored_keyrings/],
  [{ ...unlisted, map: 'ima-buf' }, /to ima-buf of the policy/],
  [changed, /it was replaced/],
  [{ ...changed, explanation: { expectedPackages: ['tool 1.0-1'] } }, /if the package was updated/],
  [{ ...changed, path: 'boot_aggregate' }, /measured-boot policy/],
  [{ ...changed, map: 'keyrings', path: '.ima' }, /keyring \.ima: .*ignored_keyrings/],
  [{ ...changed, map: 'ima-buf' }, /to ima-buf of the policy/],
  [{ kind: 'ima_boot_aggregate_missing' }, /whole list of this boot/],
  [{ kind: 'ima_entry_malformed', index: 1, problem: 'pcr', line: 'x' }, /ima_ml_path/],
  [
    { kind: 'ima_entry_malformed', index: 1, problem: 'template_format', line: 'x' },
    /ima_template_fmt=.*ima_template=/,
  ],
  [{ ...at, kind: 'ima_pcr_not_ten', actual: 11 }, /pcr=/],
  [{ ...at, kind: 'ima_violation' }, /tomtou = accept/],
  [{ ...at, kind: 'ima_template_hash_mismatch', actual: 'a', expected: 'b' }, /ima\.log_hash_alg/],
  [{ ...at, kind: 'ima_buffer_digest_mismatch', actual: 'a' }, /list was changed/],
  [{ ...at, kind: 'ima_key_unsupported', keyType: 'dsa', actual: 'ab' }, /RSA or ECDSA/],
  [{ ...at, kind: 'ima_signature_malformed', sizeBytes: 3 }, /evmctl ima_sign/],
  [{ ...at, kind: 'ima_device_mapper', problem: 'parsing_failed', detail: 'd' }, /dmsetup table/],
  [{ kind: 'ima_pcr_mismatch', quoted: 'a', replayed: 'b' }, /--ima-extend-mode/],
  [{ kind: 'ima_quote_progress', matched: 1, length: 2 }, /PCR 10 stands still/],
  [{ kind: 'ima_list_missing' }, /ima_policy=tcb/],
  [{ kind: 'ima_entry_unexpected', found: 5, requested: 0 }, /reboot first/],
];

const judged = { rules: 'strict', checksum: 'c' };
const violated = { ...judged, kind: 'measured_boot_policy_violated', event: 45, pcr: 8 } as const;
const malformed = { kind: 'record_malformed', index: 0, offset: 0, field: '', problem: 'p' } as const;

/** Every failure of a boot. */
const bootFailures: readonly (readonly [Failure, RegExp])[] = [
  [
    { ...violated, reason: 'kernel_cmdline_unexpected' },
    /create measured-boot -b, or predict .* updatembpolicy\) and reactivate/,
  ],
  [{ ...violated, reason: 'secure_boot_off' }, /setup of the firmware/],
  [{ ...violated, reason: 'event_data_not_measured' }, /treat the machine as attacked/],
  [{ ...violated, reason: 'separator_tells_error' }, /treat the machine as attacked/],
  [{ ...violated, reason: 'sbat_level_too_low' }, /update shim/],
  [{ ...violated, reason: 'bank_not_in_reference' }, /--hash-alg/],
  [{ ...violated, rules: 'reject-all', reason: 'every_boot_is_refused' }, /--mb-policy-rules/],
  [{ ...judged, kind: 'measured_boot_policy_failed', problem: 'p' }, /measured_boot_imports/],
  [{ ...judged, kind: 'measured_boot_judged_too_slowly', problem: 'p' }, /measured_boot_timeout/],
  [{ kind: 'measured_boot_pcr_mismatch', pcr: 11, expected: 'a', found: 'b' }, /soft reboot/],
  [{ kind: 'measured_boot_pcr_mismatch', pcr: 1, expected: 'a', found: 'b' }, /not the one of this boot/],
  [{ kind: 'measured_boot_bank_missing', bank: 'sha384', banks: ['sha256'] }, /tpm_hash_alg/],
  [{ kind: 'measured_boot_log_malformed', problem: malformed }, /show event-log/],
  [{ kind: 'measured_boot_log_not_base64' }, /measuredboot_ml_path/],
  [{ kind: 'measured_boot_log_missing', pcrs: [0, 1] }, /securityfs/],
  [{ kind: 'measured_boot_reference_invalid', rules: 'strict', path: 'pk', problem: 'p' }, /updatembpolicy/],
];

for (const [failure, advice] of [...failures, ...bootFailures]) {
  test(`there is something to do about ${failure.kind} ${advice}`, () => {
    const { eventId: event_id, context } = failureEvent(failure);
    const lines = adviceLines({ last_failures: [{ event_id, context }] });
    assert.equal(lines.length, 1);
    assert.ok(lines[0]?.startsWith(`${event_id}: `));
    assert.match(lines[0] ?? '', advice);
  });
}

test('the same advice is given once, and where nothing is known none', () => {
  const { eventId: event_id, context } = failureEvent(unlisted);
  const failure = { event_id, context };
  assert.equal(adviceLines({ last_failures: [failure, { ...failure }, { event_id: 'x' }, 1] }).length, 1);
  assert.deepEqual(adviceLines({}), []);
});
