import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encAlgName, normalEncAlgName } from './algorithm-names.ts';

test('before 2.5 the two commonest key types have short names, all others never', () => {
  assert.equal(encAlgName('rsa2048', '2.4'), 'rsa');
  assert.equal(encAlgName('ecc256', '2.1'), 'ecc');
  assert.equal(encAlgName('ecc384', '2.1'), 'ecc384');
  assert.equal(encAlgName('rsa3072', '2.4'), 'rsa3072');
});

test('from 2.5 on every key type has its long name', () => {
  for (const name of ['rsa2048', 'ecc256', 'ecc521']) {
    assert.equal(encAlgName(name, '2.5'), name);
    assert.equal(encAlgName(name, '2.6'), name);
  }
});

test('a short name and its long name are one key type, and a short name covers no other size', () => {
  assert.equal(normalEncAlgName('rsa'), 'rsa2048');
  assert.equal(normalEncAlgName('ecc'), 'ecc256');
  assert.equal(normalEncAlgName('ecc384'), 'ecc384');
});
