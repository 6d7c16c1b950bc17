import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { mergeReferences } from './merge-references.ts';

const digest = (digit: string) => ({ sha256: `0x${digit.repeat(64)}` });
const key = (digit: string) => ({
  SignatureOwner: '77fa9abd-0359-4d32-bd60-28f4e78f784b',
  SignatureData: `0x${digit.repeat(64)}`,
});

const BASE: StrictReferenceJson = {
  scrtm_and_bios: [{ platform_firmware: [digest('1')] }],
  pk: [key('1')],
  kek: [],
  db: [key('1')],
  dbx: [key('1'), key('2'), key('3')],
  mokdig: [digest('1')],
  mokxdig: [],
  kernels: [{ images: ['signed'], cmdline_in_image: true }],
  digests: { 1: [digest('1')] },
};

/** What two reference states become, and what of them is demanded no more. */
function merge(first: StrictReferenceJson, second: StrictReferenceJson) {
  const told: string[] = [];
  return { merged: mergeReferences(first, second, (text) => told.push(text)), told };
}

test('alternatives are joined, and what is the same is there once', () => {
  const other: StrictReferenceJson = {
    ...BASE,
    has_secureboot: true,
    db: [key('2')],
    digests: { 1: [digest('1')], 5: [digest('2')] },
  };
  const { merged, told } = merge(BASE, other);
  assert.deepEqual(merged.db, [key('1'), key('2')]);
  assert.deepEqual(merged.digests, { 1: [digest('1')], 5: [digest('2')] });
  assert.deepEqual([merged.kernels.length, merged.scrtm_and_bios.length, merged.mokdig.length], [1, 1, 1]);
  assert.deepEqual(told, []);
  assert.deepEqual(merge(BASE, BASE), { merged: BASE, told: [] });
});

test('members in another order are no other alternative', () => {
  const kernels = [{ cmdline_in_image: true, images: ['signed'] as const }];
  assert.equal(merge(BASE, { ...BASE, kernels }).merged.kernels.length, 1);
});

test('of revocations those are demanded that all boots have, and the others told', () => {
  const { merged, told } = merge(BASE, { ...BASE, dbx: [key('3'), key('4'), key('1')] });
  assert.deepEqual(merged.dbx, [key('1'), key('3')]);
  assert.deepEqual(told, ['dbx: 2 entries that only some of the boots have are not demanded; 2 that all have are']);
});

test('signers of all boots may sign; where one reference state says nothing of them, that is told', () => {
  const authority = (digit: string) => ({ variable: 'db' as const, ...key(digit) });
  const [first, second] = [[authority('1')], [authority('1'), authority('2')]].map((authorities) => ({
    ...BASE,
    authorities,
  }));
  assert(first && second);
  assert.deepEqual(merge(first, second), { merged: { ...BASE, authorities: second.authorities }, told: [] });
  for (const { merged, told } of [merge(first, BASE), merge(BASE, first)]) {
    assert.deepEqual(merged, BASE);
    assert.match(told.join(), /^authorities: left open, /);
  }
});

test('the SbatLevel that all boots have is demanded; where one has none, that is told', () => {
  const level = (sbat_level: string) => ({ ...BASE, sbat_level });
  const [high, low] = [level('sbat,1,2025021800\nshim,4\n'), level('sbat,1,2024040900\ngrub,3\nshim,3\n')];
  assert.deepEqual(merge(high, high), { merged: high, told: [] });
  for (const { merged, told } of [merge(high, low), merge(low, high)]) {
    assert.equal(merged.sbat_level, 'sbat,1,2024040900\nshim,3\n');
    assert.deepEqual(told, ['sbat_level: the lower one is demanded, sbat,1,2024040900 shim,3']);
  }
  for (const { merged, told } of [merge(high, BASE), merge(BASE, high)]) {
    assert.deepEqual(merged, BASE);
    assert.match(told.join(), /^sbat_level: left open, /);
  }
});

test('Secure Boot on and off do not go together', () => {
  assert.throws(() => merge(BASE, { ...BASE, has_secureboot: false }), { code: 'log_unsuitable' });
});
