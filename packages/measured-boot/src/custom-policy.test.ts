import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeVariable } from '@keylime/event-log/encode-data';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import { changed, measured, vectorLog, verifiedBy } from './internal/samples.ts';
import type { MeasuredBootPolicy } from './policy.ts';

const file = new URL('../../../docs/examples/secure-boot-on.mjs', import.meta.url);
const { policies } = (await import(file.href)) as { readonly policies: readonly [MeasuredBootPolicy] };
const [policy] = policies;

const reasons = (log: VerifiedEventLog): readonly string[] =>
  policy.evaluate(log, undefined).map(({ reason }) => reason);

test('the policy of the documentation accepts a boot with Secure Boot and refuses one without', () => {
  assert.equal(policy.name, 'secure-boot-on');
  assert.equal(policy.decodeReference(undefined).ok, true);
  assert.equal(policy.decodeReference({ kernels: [] }).ok, false);
  assert.deepEqual(reasons(verifiedBy(vectorLog('debian12-secureboot-vm'))), []);
  assert.deepEqual(reasons(verifiedBy(vectorLog('debian12-uefi-vm'))), ['secure_boot_off']);
});

test('attack: it is not talked round with a forged event, an event at the end, or none', () => {
  const off = encodeVariable('SecureBoot', Buffer.of(0));
  const on = encodeVariable('SecureBoot', Buffer.of(1));
  const type = 'EV_EFI_VARIABLE_DRIVER_CONFIG';
  assert.deepEqual(reasons(changed((events) => events.with(3, measured(7, type, on, off)))), ['secure_boot_off']);
  const appended = changed((events) => [...events.with(3, measured(7, 'EV_EFI_ACTION', off)), measured(7, type, on)]);
  assert.deepEqual(reasons(appended), ['secure_boot_off']);
  assert.deepEqual(reasons(changed((events) => events.filter(({ pcr }) => pcr !== 7))), ['secure_boot_unknown']);
});
