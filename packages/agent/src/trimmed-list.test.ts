import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openMeasurementList } from './measurement-list.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-trimmed-'));
after(() => rmSync(folder, { recursive: true }));

const entry = (i: number) => `10 ${i.toString(16).padStart(40, '0')} ima-ng sha256:${'ab'.repeat(32)} /usr/bin/${i}\n`;
const entries = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => entry(from + i)).join('');
const violation = `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`;

let files = 0;

/** A tree as Linux 7.2 shows it, with what an administrator does to it. */
function kernel(text: string) {
  const path = join(folder, `ascii-${files++}`);
  writeFileSync(path, text);
  writeFileSync(`${path}_staged`, '');
  const list = openMeasurementList(path, (cause) => assert.fail(String(cause)));
  return {
    measure: (more: string) => appendFileSync(path, more),
    stage() {
      writeFileSync(`${path}_staged`, readFileSync(path));
      writeFileSync(path, '');
    },
    remove: () => writeFileSync(`${path}_staged`, ''),
    trim: (count: number) => writeFileSync(path, `${readFileSync(path, 'utf8').split('\n').slice(count).join('\n')}`),
    async read(from: number) {
      const part = await list.readFrom(from);
      assert.ok(part?.content.kind === 'text');
      return [part.firstEntry, part.content.text];
    },
  };
}

test('staged records are still in the list, and stay in it when new ones come', async () => {
  const { measure, stage, read } = kernel(entries(0, 5));
  assert.deepEqual(await read(0), [0, entries(0, 5)]);
  stage();
  assert.deepEqual(await read(2), [2, entries(2, 5)]);
  measure(entries(5, 7));
  assert.deepEqual(await read(5), [5, entries(5, 7)]);
  assert.deepEqual(await read(0), [0, entries(0, 7)]);
});

test('a verifier that keeps up notices nothing when records are removed', async () => {
  const { measure, stage, remove, read } = kernel(entries(0, 5));
  assert.deepEqual(await read(0), [0, entries(0, 5)]);
  stage();
  measure(entries(5, 6));
  remove();
  assert.deepEqual(await read(5), [5, entries(5, 6)]);
  assert.deepEqual(await read(6), [6, '']);
  measure(entries(6, 9));
  assert.deepEqual(await read(6), [6, entries(6, 9)]);
});

test('records trimmed without staging are counted too', async () => {
  const { measure, trim, read } = kernel(entries(0, 5));
  await read(0);
  trim(2);
  measure(entries(5, 6));
  assert.deepEqual(await read(3), [3, entries(3, 6)]);
  trim(4);
  measure(entries(6, 7));
  assert.deepEqual(await read(6), [6, entries(6, 7)]);
});

test('who asks for records that are gone gets those that are there, under their own number', async () => {
  const { stage, remove, measure, read } = kernel(entries(0, 5));
  await read(0);
  stage();
  remove();
  measure(entries(5, 8));
  assert.deepEqual(await read(0), [5, entries(5, 8)]);
  assert.deepEqual(await read(4), [5, entries(5, 8)]);
  assert.deepEqual(await read(9), [5, entries(5, 8)], 'and so does who asks for what is yet to come');
});

test('violations of one file are alike, and are told apart by what is around them', async () => {
  const { measure, trim, read } = kernel(entries(0, 1) + violation.repeat(3) + entries(4, 5));
  await read(0);
  trim(2);
  measure(violation);
  assert.deepEqual(await read(5), [5, violation]);
});
