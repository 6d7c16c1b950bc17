import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyA, policyB } from './ek-policy.ts';

test('the policies are those of the TCG EK Credential Profile', () => {
  assert.equal(policyA('sha256').toString('hex'), '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa');
  assert.equal(
    policyA('sha384').toString('hex'),
    '8bbf2266537c171cb56e403c4dc1d4b64f432611dc386e6f532050c3278c930e143e8bb1133824ccb431053871c6db53',
  );
  assert.equal(policyB('sha256').toString('hex'), 'ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0');
});
