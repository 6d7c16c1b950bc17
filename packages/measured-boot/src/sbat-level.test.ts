import assert from 'node:assert/strict';
import { test } from 'node:test';
import { belowSbatLevel, lowerSbatLevel, parseSbatLevel, sbatLevelText } from './sbat-level.ts';

test('a SbatLevel is read as shim measures it', () => {
  assert.deepEqual(
    parseSbatLevel('sbat,1,2025021800\nshim,4\ngrub.debian,5\n'),
    new Map([
      ['sbat', 2025021800],
      ['shim', 4],
      ['grub.debian', 5],
    ]),
  );
});

test('anything else is none', () => {
  for (const text of [
    '',
    'sbat,1',
    'shim,4\n',
    'sbat,1,2025021800\nshim\n',
    'sbat,1,2025021800\nshim,x\n',
    'sbat,1,2025021800\n\nshim,1',
    'sbat,1,2025021800\nshim,1\nshim,2\n',
    'sbat,1,20250218\n',
    'sbat,1,2025021800\nshim,1,2025021800\n',
  ]) {
    assert.equal(parseSbatLevel(text), undefined, JSON.stringify(text));
  }
});

test('a component that is not demanded at all is below every generation', () => {
  const level = new Map([
    ['sbat', 2],
    ['shim', 3],
  ]);
  assert.deepEqual(
    belowSbatLevel(
      level,
      new Map([
        ['sbat', 2],
        ['shim', 2],
      ]),
    ),
    [],
  );
  assert.deepEqual(
    belowSbatLevel(
      level,
      new Map([
        ['sbat', 3],
        ['shim', 3],
        ['grub', 1],
      ]),
    ),
    ['sbat', 'grub'],
  );
});

test('of two levels the lower one is what both machines have', () => {
  const parse = (text: string) => parseSbatLevel(text) ?? assert.fail(text);
  const first = parse('sbat,1,2025021800\nshim,4\ngrub,3\ngrub.debian,5\n');
  const second = parse('sbat,1,2024040900\nshim,5\ngrub,3\n');
  const lower = lowerSbatLevel(first, second);
  assert.equal(sbatLevelText(lower), 'sbat,1,2024040900\nshim,4\ngrub,3\n');
  assert.deepEqual(lowerSbatLevel(second, first), lower);
  for (const level of [first, second]) assert.deepEqual(belowSbatLevel(level, lower), []);
  assert.deepEqual(parse(sbatLevelText(first)), first);
});
