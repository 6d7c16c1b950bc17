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

test('alternatives are joined, and what is the same is there once', () => {
  const other: StrictReferenceJson = {
    ...BASE,
    has_secureboot: true,
    db: [key('2')],
    digests: { 1: [digest('1')], 5: [digest('2')] },
  };
  const merged = mergeReferences(BASE, other);
  assert.deepEqual(merged.db, [key('1'), key('2')]);
  assert.deepEqual(merged.digests, { 1: [digest('1')], 5: [digest('2')] });
  assert.deepEqual([merged.kernels.length, merged.scrtm_and_bios.length, merged.mokdig.length], [1, 1, 1]);
  assert.deepEqual(mergeReferences(BASE, BASE), BASE);
});

test('members in another order are no other alternative', () => {
  const kernels = [{ cmdline_in_image: true, images: ['signed'] as const }];
  assert.equal(mergeReferences(BASE, { ...BASE, kernels }).kernels.length, 1);
});

test('of revocations those are demanded that all boots have', () => {
  assert.deepEqual(mergeReferences(BASE, { ...BASE, dbx: [key('3'), key('4'), key('1')] }).dbx, [key('1'), key('3')]);
});

test('Secure Boot on and off do not go together', () => {
  assert.throws(() => mergeReferences(BASE, { ...BASE, has_secureboot: false }), { code: 'log_unsuitable' });
});
