import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noProgress, openProgress } from './progress.ts';

test('nothing is drawn where output is no terminal', () => {
  assert.equal(openProgress({ write: () => assert.fail('written') }), noProgress);
  assert.equal(openProgress({ isTTY: false, write: () => assert.fail('written') }), noProgress);
});

test('a bar is drawn on a terminal, not too often, within its width, and removed in the end', () => {
  let now = 1_000;
  const drawn: string[] = [];
  const terminal = { isTTY: true, columns: 60, write: (text: string) => drawn.push(text.replace('\r\u001b[K', '')) };
  const progress = openProgress(terminal, () => now);
  progress.start('Digesting /', 4);
  progress.advance();
  progress.advance();
  now += 200;
  progress.advance();
  progress.grow(96);
  now += 200;
  progress.grow(0);
  progress.stop();
  assert.deepEqual(drawn, [
    'Digesting / [........................] 0 % 0/4',
    'Digesting / [##################......] 75 % 3/4',
    'Digesting / [#.......................] 3 % 3/100',
    '',
  ]);
  for (const line of drawn) assert.ok(line.length < 60);
});

test('a terminal that does not know its width has 80 columns', () => {
  const drawn: string[] = [];
  openProgress({ isTTY: true, columns: 0, write: (text) => drawn.push(text) }).start('x'.repeat(100));
  assert.deepEqual(drawn, [`\r\u001b[K${'x'.repeat(79)}`]);
});
