import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeTpmPolicy, serialiseTpmPolicy } from './tpm-policy.ts';

const A = 'aa'.repeat(20);
const B = 'bb'.repeat(32);

test('values are strings or lists of any bank, in lower case, and the mask covers their PCRs', () => {
  const decoded = decodeTpmPolicy(`{"22": "${A.toUpperCase()}", "0": ["${A}", "${B}"], "mask": "0x8000"}`);
  assert.ok(decoded.ok);
  assert.deepEqual(
    [...decoded.value.pcrs],
    [
      [0, new Set([A, B])],
      [22, new Set([A])],
    ],
  );
  assert.equal(decoded.value.mask, 0x408001);
});

test('a policy without values asks for the PCRs of its mask only', () => {
  assert.deepEqual(decodeTpmPolicy('{}'), { ok: true, value: { pcrs: new Map(), mask: 0 } });
  const decoded = decodeTpmPolicy('{"mask": "0x408400"}');
  assert.equal(decoded.ok && decoded.value.mask, 0x408400);
});

for (const [text, problem] of [
  ['[]', 'must be a JSON object such as {"22": "<hex digest>"}'],
  ['{', 'must be a JSON object such as {"22": "<hex digest>"}'],
  [`{"24": "${A}"}`, 'Invalid tpm policy pcr number: "24" is not one of 0 to 23'],
  [`{"-1": "${A}"}`, 'Invalid tpm policy pcr number: "-1" is not one of 0 to 23'],
  [`{"a": "${A}"}`, 'Invalid tpm policy pcr number: "a" is not one of 0 to 23'],
  [`{"10": "${A}"}`, 'Invalid allowlist PCR number 10, this PCR is used for IMA.'],
  [`{"16": "${A}"}`, 'Invalid allowlist PCR number 16, keylime uses this PCR to bind data.'],
  [`{"7": "${A}", "07": "${A}"}`, 'PCR 7 is listed twice'],
  ['{"7": []}', 'PCR 7 must be a hex digest of 40, 64, 96 or 128 digits, or a list of them'],
  ['{"7": "aa"}', 'PCR 7 must be a hex digest of 40, 64, 96 or 128 digits, or a list of them'],
  ['{"7": 7}', 'PCR 7 must be a hex digest of 40, 64, 96 or 128 digits, or a list of them'],
  ['{"mask": "0x1000000"}', 'mask must be hexadecimal with bits 0 to 23, such as "0x408000"'],
  ['{"mask": "-1"}', 'mask must be hexadecimal with bits 0 to 23, such as "0x408000"'],
] as const) {
  test(`${text.slice(0, 30)} is refused: ${problem}`, () => {
    assert.deepEqual(decodeTpmPolicy(text), { ok: false, problem: [problem] });
  });
}

test('all that is wrong is reported', () => {
  const decoded = decodeTpmPolicy('{"24": "x", "16": "x"}');
  assert.equal(!decoded.ok && decoded.problem.length, 3);
});

test('a policy is written with its mask as existing verifiers read it, and read back', () => {
  const decoded = decodeTpmPolicy(`{"22": "${A}", "15": ["${B}"]}`);
  assert.ok(decoded.ok);
  const text = serialiseTpmPolicy(decoded.value);
  assert.equal(text, `{"15":["${B}"],"22":["${A}"],"mask":"0x408000"}`);
  assert.deepEqual(decodeTpmPolicy(text), decoded);
});

test('no JSON makes the decoder throw', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.oneof(fc.nat(30).map(String), fc.string()), fc.jsonValue()), (value) => {
      assert.equal(typeof decodeTpmPolicy(JSON.stringify(value)).ok, 'boolean');
    }),
  );
});
