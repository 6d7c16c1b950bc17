import assert from 'node:assert/strict';
import test from 'node:test';
import { TenantError } from './tenant-error.ts';
import { readTpmPolicy, tpmPolicyText, withBootPcrs, withImaPcr } from './tpm-policy-option.ts';

const A = 'a'.repeat(64);
const refused = (text: string, message: RegExp) =>
  assert.throws(
    () => readTpmPolicy(text),
    (error) => {
      assert.ok(error instanceof TenantError);
      assert.equal(error.code, 'policy_invalid');
      assert.match(error.message, message);
      return true;
    },
  );

test('the text for the verifier has lower-case lists and the mask of the PCRs, as Python prints it', () => {
  assert.equal(tpmPolicyText(readTpmPolicy('{}')), '{"mask": "0x0"}');
  const policy = readTpmPolicy(`{"22": "${A.toUpperCase()}", "15": ["${A}", "${'0'.repeat(40)}"]}`);
  assert.equal(tpmPolicyText(policy), `{"15": ["${A}", "${'0'.repeat(40)}"], "22": ["${A}"], "mask": "0x408000"}`);
});

test('IMA adds PCR 10 to the mask and nothing else', () => {
  assert.equal(tpmPolicyText(withImaPcr(readTpmPolicy('{}'))), '{"mask": "0x400"}');
});

test('measured boot adds PCRs 0 to 15 but 10, and whatever else is asked for stays', () => {
  assert.equal(tpmPolicyText(withBootPcrs(readTpmPolicy('{}'))), '{"mask": "0xfbff"}');
  assert.equal(tpmPolicyText(withImaPcr(withBootPcrs(readTpmPolicy('{}')))), '{"mask": "0xffff"}');
  const policy = withBootPcrs(readTpmPolicy(`{"22": "${A}"}`));
  assert.equal(tpmPolicyText(policy), `{"22": ["${A}"], "mask": "0x40fbff"}`);
});

test('PCRs with a meaning of their own are refused', () => {
  refused(`{"16": "${A}"}`, /Invalid allowlist PCR number 16, keylime uses this PCR to bind data\./);
  refused(`{"10": "${A}"}`, /Invalid allowlist PCR number 10, this PCR is used for IMA\./);
});

test('what is no policy is refused', () => {
  for (const text of [
    '',
    '[]',
    'x',
    '{"24": "00"}',
    '{"-1": "00"}',
    `{"x": "${A}"}`,
    '{"1": 5}',
    '{"1": []}',
    '{"1": "zz"}',
  ]) {
    refused(text, /^--tpm_policy: /);
  }
  refused('{"mask": "0x400"}', /mask/);
});
