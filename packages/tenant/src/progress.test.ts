import assert from 'node:assert/strict';
import test from 'node:test';
import { openProgress } from './progress.ts';
import { AGENT, openScene } from './testing/scene.ts';

test('a terminal shows one line at a time, and none when all is over', () => {
  const written: string[] = [];
  const progress = openProgress({ isTTY: true, write: (text) => written.push(text) });
  progress.show('asking\nthe registrar');
  progress.show('x'.repeat(200));
  progress.clear();
  progress.clear();
  assert.equal(written.length, 3);
  assert.match(written[0] ?? '', /… asking the registrar$/);
  assert.ok((written[1]?.length ?? 0) < 90);
  assert.equal(written[2], '\r\x1b[2K');
});

test('a pipe and a file get no progress', async (t) => {
  const written: string[] = [];
  const progress = openProgress({ write: (text) => written.push(text) });
  progress.show('asking the registrar');
  progress.clear();
  const scene = await openScene(t);
  const outcome = await scene.tenant(['-u', AGENT]);
  assert.deepEqual([written, outcome.stderr], [[], '']);
});
