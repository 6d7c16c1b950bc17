import assert from 'node:assert/strict';
import { test } from 'node:test';
import { REFERENCE } from './internal/strict-samples.ts';
import { membersPassedOver } from './members-passed-over.ts';

test('accept-all looks at nothing of a reference state, example at what the existing verifier knows', () => {
  const reference = JSON.parse(JSON.stringify({ ...REFERENCE, sbat_level: 'sbat,1,2021030218\n', unlisted: ['gpt'] }));
  assert.deepEqual(membersPassedOver('accept-all', reference), Object.keys(reference));
  assert.deepEqual(membersPassedOver('example', reference), ['authorities', 'sbat_level', 'unlisted']);
  for (const rules of ['strict', 'reject-all', 'mine']) assert.deepEqual(membersPassedOver(rules, reference), []);
});
