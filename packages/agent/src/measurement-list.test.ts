import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { encodeUtf8 } from '@keylime/ima/list-text';
import fc from 'fast-check';
import { type ListPart, openMeasurementList } from './measurement-list.ts';

/** A kernel that removes nothing: there is nothing to keep. */
const NOT_KEPT = { read: () => assert.fail('read'), write: () => assert.fail('written') };

const folder = mkdtempSync(join(tmpdir(), 'keylime-list-'));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
const newPath = () => join(folder, `list-${files++}`);
const entry = (i: number) =>
  `10 ${i.toString(16).padStart(40, '0')} ima-ng sha256:${'ab'.repeat(32)} /usr/bin/tool-${i}\n`;
const entries = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => entry(from + i)).join('');

const unexpected = (cause: unknown) => assert.fail(String(cause));

function textOf(part: ListPart | undefined): string {
  assert.ok(part);
  if (part.content.kind === 'text') return part.content.text;
  const text = [...part.content.pieces].join('');
  part.content.release();
  return text;
}

function listOf(text: string | Uint8Array) {
  const path = newPath();
  writeFileSync(path, text);
  return { path, list: openMeasurementList(path, NOT_KEPT, unexpected) };
}

test('every entry number up to the count gives the list from there, and a larger one the whole list', async () => {
  const { list } = listOf(entries(0, 700));
  for (const n of [0, 1, 255, 256, 257, 511, 512, 699]) {
    const part = await list.readFrom(n);
    assert.equal(part?.firstEntry, n);
    assert.equal(textOf(part), entries(n, 700));
  }
  assert.deepEqual(await list.readFrom(700), { firstEntry: 700, content: { kind: 'text', text: '' } });
  const beyond = await list.readFrom(701);
  assert.equal(beyond?.firstEntry, 0);
  assert.equal(textOf(beyond), entries(0, 700));
  list.close();
});

test('entries are counted as far as they are whole, also after the list grew or was replaced', async () => {
  const { path, list } = listOf(`${entries(0, 300)}10 half`);
  assert.equal(await list.countEntries(), 300);
  appendFileSync(path, ` a line\n${entries(301, 303)}`);
  assert.equal(await list.countEntries(), 303);
  writeFileSync(`${path}-next`, entries(0, 2));
  renameSync(`${path}-next`, path);
  assert.equal(await list.countEntries(), 2);
  list.close();
});

test('entries appended between two readings are seen, wherever the reading starts', async () => {
  const { path, list } = listOf(entries(0, 3));
  assert.equal(textOf(await list.readFrom(0)), entries(0, 3));
  appendFileSync(path, entries(3, 600));
  assert.equal(textOf(await list.readFrom(3)), entries(3, 600));
  appendFileSync(path, entries(600, 601));
  assert.equal(textOf(await list.readFrom(600)), entries(600, 601));
  assert.equal(textOf(await list.readFrom(2)), entries(2, 601));
  list.close();
});

test('a last line without newline is sent but not counted', async () => {
  const { path, list } = listOf(`${entries(0, 2)}10 00`);
  assert.equal(textOf(await list.readFrom(2)), '10 00');
  assert.equal((await list.readFrom(3))?.firstEntry, 0);
  appendFileSync(path, '11\n');
  assert.equal(textOf(await list.readFrom(2)), '10 0011\n');
  assert.equal((await list.readFrom(3))?.firstEntry, 3);
  list.close();
});

test('a list far larger than the window comes in pieces that join to the file', async () => {
  const text = entries(0, 40_000);
  const { list } = listOf(text);
  const part = await list.readFrom(0);
  assert.equal(part?.content.kind, 'pieces');
  assert.equal(textOf(part), text);
  assert.equal(textOf(await list.readFrom(100)), entries(100, 40_000));
  assert.equal((await list.readFrom(39_999))?.content.kind, 'text');
  list.close();
});

test('names that are UTF-8 are text, and stray bytes survive the way through text', async () => {
  const name = Buffer.concat([
    Buffer.from(entry(1).replace('tool', 'größe')),
    Buffer.from('10 x /tmp/\xff\xc3\n', 'latin1'),
  ]);
  const { list } = listOf(Buffer.concat([Buffer.from(entry(0)), name]));
  const text = textOf(await list.readFrom(1));
  assert.match(text, /größe/);
  assert.deepEqual(encodeUtf8(JSON.parse(JSON.stringify(text))), name);
  list.close();
});

test('characters and stray bytes are not torn between pieces', async () => {
  const line = Buffer.from(`10 ä€😀\xff ${'é'.repeat(100)}\n`);
  const bytes = Buffer.concat(
    Array.from({ length: 20_000 }, (_, i) => (i % 7 === 0 ? Buffer.from([0x31, 0xff, 0x0a]) : line)),
  );
  const { list } = listOf(bytes);
  const part = await list.readFrom(0);
  assert.equal(part?.content.kind, 'pieces');
  assert.ok(encodeUtf8(textOf(part)).equals(bytes));
  list.close();
});

test('a list that was cut, replaced or written anew starts over', async () => {
  const { path, list } = listOf(entries(0, 10));
  assert.equal(textOf(await list.readFrom(10)), '');
  writeFileSync(path, entries(20, 23));
  const cut = await list.readFrom(10);
  assert.equal(cut?.firstEntry, 0);
  assert.equal(textOf(cut), entries(20, 23));

  writeFileSync(`${path}.new`, entries(30, 50));
  renameSync(`${path}.new`, path);
  assert.equal(textOf(await list.readFrom(3)), entries(33, 50));

  writeFileSync(path, entries(60, 90));
  assert.equal(textOf(await list.readFrom(5)), entries(65, 90));
  writeFileSync(path, '');
  assert.deepEqual(await list.readFrom(5), { firstEntry: 0, content: { kind: 'text', text: '' } });
  list.close();
});

test('a list replaced while its pieces are on their way is still read to its end', async () => {
  const { path, list } = listOf(entries(0, 40_000));
  const old = await list.readFrom(0);
  writeFileSync(`${path}.new`, entries(5, 7));
  renameSync(`${path}.new`, path);
  assert.equal(textOf(await list.readFrom(0)), entries(5, 7));
  assert.equal(textOf(old), entries(0, 40_000));
  list.close();
});

test('a list that is not there is reported once, and read as soon as it appears', async () => {
  const path = newPath();
  const codes: unknown[] = [];
  const list = openMeasurementList(path, NOT_KEPT, (cause) => codes.push((cause as NodeJS.ErrnoException).code));
  assert.equal(await list.readFrom(0), undefined);
  assert.deepEqual(codes, ['ENOENT']);
  writeFileSync(path, entries(0, 1));
  assert.equal(textOf(await list.readFrom(0)), entries(0, 1));
  list.close();
});

test('readings at the same time do not disturb each other', async () => {
  const { path, list } = listOf(entries(0, 2000));
  const first = [0, 5, 1999, 3000].map((n) => list.readFrom(n));
  appendFileSync(path, entries(2000, 2001));
  const texts = (await Promise.all(first)).map(textOf);
  assert.deepEqual(
    texts.map((text) => text.endsWith(entry(2000))),
    [true, true, true, true],
  );
  assert.equal(texts[2], entries(1999, 2001));
  list.close();
});

test('whatever is appended and asked for, the answer is what splitting the file at newlines gives', async () => {
  const steps = fc.array(fc.record({ add: fc.stringMatching(/^[ab\n]{0,40}$/), from: fc.nat(60) }), { maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(steps, async (asked) => {
      const { path, list } = listOf('');
      let text = '';
      for (const { add, from } of asked) {
        appendFileSync(path, add);
        text += add;
        const lines = text.split('\n');
        const firstEntry = from <= lines.length - 1 ? from : 0;
        const part = await list.readFrom(from);
        assert.equal(part?.firstEntry, firstEntry);
        assert.equal(textOf(part), lines.slice(firstEntry).join('\n'));
      }
      list.close();
      rmSync(path);
    }),
    { numRuns: 100 },
  );
});
