import assert from 'node:assert/strict';
import { test } from 'node:test';
import { collectedAttributes } from '@keylime/api/push-evidence';
import { repeatsQuote } from './collect.ts';

const [MESSAGE, SIGNATURE] = [Buffer.from('the message'), Buffer.from('its signature')];
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64');
const taken = { message: base64(MESSAGE), signature: base64(SIGNATURE), subjectData: 'AA==' };

const evidence = (changes: { readonly message?: string; readonly signature?: string } = {}) =>
  collectedAttributes([
    {
      evidence_class: 'certification',
      evidence_type: 'tpm_quote',
      data: { message: taken.message, signature: taken.signature, subject_data: 'AQ==', ...changes },
    },
  ]);

test('a quote is the one that was taken by its message and its signature, in base64 or in hex', () => {
  assert.equal(repeatsQuote(evidence(), taken), true);
  assert.equal(repeatsQuote(evidence({ message: MESSAGE.toString('hex') }), taken), true);
  assert.equal(repeatsQuote(evidence({ message: base64(SIGNATURE) }), taken), false);
  assert.equal(repeatsQuote(evidence({ signature: base64(MESSAGE) }), taken), false);
  assert.equal(repeatsQuote(evidence({ message: '?' }), taken), false);
});

test('[MUST] without a quote, or where none was taken, nothing is a repetition', () => {
  assert.equal(repeatsQuote(evidence(), undefined), false);
  for (const evidence_collected of [[], {}, null, [null], [{ evidence_class: 'log', evidence_type: 'ima_log' }]]) {
    assert.equal(repeatsQuote({ evidence_collected }, taken), false, JSON.stringify(evidence_collected));
  }
  assert.equal(repeatsQuote({}, taken), false);
  const [quote] = evidence().evidence_collected;
  assert.ok(quote);
  const log = { evidence_class: 'log', evidence_type: 'ima_log', data: { entries: '' } } as const;
  assert.equal(repeatsQuote({ evidence_collected: [log, quote] }, taken), false, 'the quote comes first');
});
