import assert from 'node:assert/strict';
import { test } from 'node:test';
import { conclude } from './conclude.ts';

test('a required check that did not run is missing, not passed', () => {
  assert.deepEqual(conclude(['quote', 'clock'], [{ check: 'quote', failures: [] }]), {
    verdict: 'inconclusive',
    missing: ['clock'],
  });
});

test('a failure counts, whatever else is missing', () => {
  const failure = { kind: 'transport_key_missing' } as const;
  assert.deepEqual(conclude(['quote', 'clock'], [{ check: 'quote', failures: [failure] }]), {
    verdict: 'contraindicated',
    failures: [failure],
  });
});

test('all required checks without a failure affirm', () => {
  assert.deepEqual(conclude(['quote'], [{ check: 'quote', failures: [] }]), { verdict: 'affirming' });
});
