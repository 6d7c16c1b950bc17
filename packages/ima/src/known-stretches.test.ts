import assert from 'node:assert/strict';
import { test } from 'node:test';
import { KnownStretches, type Stretch } from './known-stretches.ts';

const pcr = (byte: number) => Buffer.alloc(32, byte);
const QUOTED = pcr(0x99);

const stretch = (text: string, after: number): Stretch => ({
  bytes: Buffer.from(text),
  entryCount: 2,
  after: pcr(after),
  values: Uint32Array.of(0x05050505, pcr(after).readUInt32BE()),
});

test('a stretch is found after the same PCR and before the same bytes only', () => {
  const known = new KnownStretches();
  known.keep(pcr(1), stretch('a\nb\n', 2));
  const find = (before: number, list: string) => known.find(pcr(before), Buffer.from(list), QUOTED);
  assert.deepEqual(find(1, 'a\nb\nc\n')?.after, pcr(2));
  assert.equal(find(2, 'a\nb\nc\n'), undefined);
  assert.equal(find(1, 'a\nB\nc\n'), undefined);
  assert.equal(find(1, 'a\nb'), undefined);
});

test('a stretch comes again when both values of the PCR do', () => {
  const known = new KnownStretches();
  assert.equal(known.comesAgain(pcr(1), pcr(2)), false);
  assert.equal(known.comesAgain(pcr(1), pcr(3)), false, 'another one after the same PCR');
  assert.equal(known.comesAgain(pcr(1), pcr(2)), true);
});

test('a stretch in which the quoted value may lie is not taken as a whole', () => {
  const known = new KnownStretches();
  known.keep(pcr(1), stretch('a\nb\n', 2));
  for (const quoted of [pcr(5), pcr(2)]) assert.equal(known.find(pcr(1), Buffer.from('a\nb\n'), quoted), undefined);
});

test('what was used last is kept within the room that there is, and stays as it was', () => {
  const known = new KnownStretches(8);
  const bytes = Buffer.from('a\nb\n');
  known.keep(pcr(1), { ...stretch('', 2), bytes });
  bytes.fill(0x78);
  known.keep(pcr(2), stretch('c\nd\n', 3));
  const has = (before: number, list: string) => known.find(pcr(before), Buffer.from(list), QUOTED) !== undefined;
  assert.equal(has(1, 'a\nb\n'), true);
  known.keep(pcr(3), stretch('e\nf\n', 4));
  assert.deepEqual([has(1, 'a\nb\n'), has(2, 'c\nd\n'), has(3, 'e\nf\n')], [true, false, true]);
});
