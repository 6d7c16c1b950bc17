import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodePullEvidence, isEvidence } from './evidence.ts';

test('absent and null fields are the same, as existing agents have it', () => {
  const evidence = decodePullEvidence({ quote: 'r', pubkey: null, ima_measurement_list_entry: null });
  assert.ok(isEvidence(evidence));
  assert.equal(evidence.transportKeyPem, undefined);
  assert.equal(evidence.imaEntry, 0);
});

test('a field of the wrong type is named', () => {
  for (const [field, value] of [
    ['quote', 7],
    ['pubkey', {}],
    ['ima_measurement_list', []],
    ['ima_measurement_list_entry', '3'],
    ['ima_measurement_list_entry', -1],
    ['boottime', 1.5],
  ] as const) {
    const problem = decodePullEvidence({ quote: 'r', [field]: value });
    assert.ok(!isEvidence(problem));
    assert.equal(problem.field, field);
  }
});

test('a transport key that would not be one is not kept', () => {
  const key = (length: number) => decodePullEvidence({ quote: 'r', pubkey: 'k'.repeat(length) });
  assert.ok(isEvidence(key(16_384)));
  assert.deepEqual(key(16_385), { kind: 'evidence_malformed', field: 'pubkey', problem: 'it is too long for a key' });
});

test('any JSON at all is evidence or a problem', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (json) => {
      const decoded = decodePullEvidence(json as never);
      assert.ok(isEvidence(decoded) || decoded.kind === 'evidence_malformed');
    }),
  );
});
