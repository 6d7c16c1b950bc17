import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { openLog } from '@keylime/service/log';
import { positionFile } from './list-position.ts';
import { openMeasurementList } from './measurement-list.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-trimmed-'));
after(() => rmSync(folder, { recursive: true }));

const entry = (i: number) =>
  `10 ${i.toString(16).padStart(40, '0')} ima-ng sha256:${'ab'.repeat(32)} ${i === 0 ? 'boot_aggregate' : `/usr/bin/${i}`}\n`;
const entries = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => entry(from + i)).join('');
const violation = `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`;

let files = 0;

/** A tree as Linux 7.2 shows it, with what an administrator does to it, and an agent that can be restarted. */
function kernel(text: string) {
  const path = join(folder, `ascii-${files++}`);
  writeFileSync(path, text);
  writeFileSync(`${path}_staged`, '');
  const said: string[] = [];
  const log = openLog({ name: 'test', level: 'info', destination: { write: (line) => void said.push(line) } });
  const open = (bootId: string) =>
    openMeasurementList(path, positionFile(`${path}.json`, bootId, log), (cause) => assert.fail(String(cause)));
  let list = open('this boot');
  return {
    restart(bootId = 'this boot') {
      list.close();
      list = open(bootId);
    },
    path,
    said,
    position: `${path}.json`,
    replace: (text: string) => writeFileSync(path, text),
    measure: (more: string) => appendFileSync(path, more),
    stage() {
      writeFileSync(`${path}_staged`, readFileSync(path));
      writeFileSync(path, '');
    },
    remove: () => writeFileSync(`${path}_staged`, ''),
    trim: (count: number) => writeFileSync(path, `${readFileSync(path, 'utf8').split('\n').slice(count).join('\n')}`),
    count: () => list.countEntries(),
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

test('records that were removed are counted, and counting them is enough to number those that come', async () => {
  const { count, measure, trim, read } = kernel(entries(0, 5));
  assert.equal(await count(), 5);
  trim(4);
  measure(entries(5, 7));
  assert.equal(await count(), 7);
  trim(2);
  assert.deepEqual(await read(6), [6, entries(6, 7)]);
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

test('an agent that was restarted goes on with the numbers that it had, whatever went meanwhile', async () => {
  const { stage, remove, measure, trim, restart, read } = kernel(entries(0, 5));
  await read(0);
  restart();
  assert.deepEqual(await read(3), [3, entries(3, 5)]);
  stage();
  restart();
  measure(entries(5, 7));
  remove();
  restart();
  assert.deepEqual(await read(5), [5, entries(5, 7)]);
  restart();
  trim(1);
  measure(entries(7, 8));
  assert.deepEqual(await read(7), [7, entries(7, 8)]);
  assert.deepEqual(await read(0), [6, entries(6, 8)]);
});

test('where nobody counted what is gone there are no numbers, and the reason is said', async () => {
  const { trim, restart, read } = kernel(entries(0, 5));
  trim(2);
  const refused = { code: 'list_position_unknown', message: /reboot the machine/ };
  await assert.rejects(read(0), refused);
  restart();
  await assert.rejects(read(2), refused);
});

test('what was kept counts for its boot only, and a list that begins with a boot is whole', async () => {
  const { trim, restart, replace, read, position } = kernel(entries(0, 5));
  await read(0);
  restart('the next boot');
  replace(entries(0, 2));
  assert.deepEqual(await read(0), [0, entries(0, 2)]);
  trim(1);
  restart('yet another boot');
  await assert.rejects(read(0), { code: 'list_position_unknown' });
  assert.match(readFileSync(position, 'utf8'), /"the next boot","nextEntry":2/);
});

test('[MUST] a line that ends like the last one that was read is not taken for it', async () => {
  const { replace, read } = kernel(entries(0, 1));
  await read(0);
  const named = `10 ${'2'.repeat(40)} ima-ng sha256:${'ab'.repeat(32)} /tmp/${entry(0)}`;
  replace(named + entry(2));
  assert.deepEqual(await read(0), [1, named + entry(2)]);
});

test('what is kept is damaged: that is said, and no numbers are made of it', async () => {
  const tail = Buffer.from(entries(4, 5)).toString('base64');
  for (const damage of [
    'no JSON',
    '[]',
    JSON.stringify({ bootId: 'this boot', nextEntry: -1, tail }),
    JSON.stringify({ bootId: 'this boot', nextEntry: 2 ** 60, tail }),
    JSON.stringify({ bootId: 'this boot', nextEntry: '5', tail }),
    JSON.stringify({ bootId: 'this boot', nextEntry: 5, tail: '?' }),
    JSON.stringify({ bootId: 'this boot', nextEntry: 5 }),
  ]) {
    const { trim, position, said, read } = kernel(entries(0, 5));
    writeFileSync(position, damage);
    trim(2);
    await assert.rejects(read(0), { code: 'list_position_unknown' }, damage);
    assert.match(said.join(''), /position in the measurement list is damaged/, damage);
  }
});

test('what is kept says that fewer entries were read than are in front of its end: no numbers are made of it', async () => {
  const { trim, position, read } = kernel(entries(0, 5));
  const tail = Buffer.from(entries(4, 5)).toString('base64');
  writeFileSync(position, JSON.stringify({ bootId: 'this boot', nextEntry: 1, tail }));
  trim(2);
  await assert.rejects(read(0), { code: 'list_position_unknown' });
});

test('of long lists the end is enough to go by, and of lines that are longer than that, too', async () => {
  const long = `10 ${'1'.repeat(40)} ima-ng sha256:${'ab'.repeat(32)} /${'long'.repeat(5000)}\n`;
  for (const last of [entries(2000, 2001), long]) {
    const { trim, restart, measure, read, position } = kernel(entries(0, 2000) + last);
    await read(0);
    assert.ok(readFileSync(position).length < 40_000);
    restart();
    trim(1990);
    measure(entries(2001, 2003));
    assert.deepEqual(await read(2001), [2001, entries(2001, 2003)]);
    trim(12);
    restart();
    assert.deepEqual(await read(0), [2002, entries(2002, 2003)]);
  }
});

/** Stages something over and over, until it is stopped. */
function stageOnAndOn(path: string): () => Promise<void> {
  let [writes, stopped] = [0, false];
  const staging = (async () => {
    while (!stopped) {
      // In one step, so that no reading finds half of it.
      writeFileSync(`${path}_new`, `${writes++}\n`);
      renameSync(`${path}_new`, `${path}_staged`);
      await nextTurn();
    }
    writeFileSync(`${path}_staged`, '');
  })();
  return () => {
    stopped = true;
    return staging;
  };
}

test('[MUST] a list that is staged all the time is given up and said, and read again when that ends', {
  timeout: 30_000,
}, async () => {
  const { path, count } = kernel(entries(0, 5));
  const stop = stageOnAndOn(path);
  await assert.rejects(count(), { code: 'list_changing' });
  await stop();
  assert.equal(await count(), 5);
});

test('a list that is staged while it is read is read once more, until it stands still', {
  timeout: 30_000,
}, async () => {
  const { path, count } = kernel(entries(0, 5));
  const stop = stageOnAndOn(path);
  const counted = count();
  // Eight readings take half a second at least.
  await sleep(150);
  await stop();
  assert.equal(await counted, 5);
});
