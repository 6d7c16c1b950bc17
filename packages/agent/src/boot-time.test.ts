import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { bootTime } from './boot-time.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-boot-time-'));
after(() => rmSync(folder, { recursive: true }));

let files = 0;
function machine() {
  const path = join(folder, `boot-time-${files++}.json`);
  const lines: string[] = [];
  const log = openLog({ name: 'test', destination: { write: (line) => lines.push(line) } });
  const says = (bootId: string, btime: number) =>
    bootTime(path, bootId, log, { readStat: async () => `cpu 1 2\nctxt 3\nbtime ${btime}\nprocesses 4\n` });
  return { path, lines, says };
}

test("the time of a boot is the kernel's, and stays what it was when the clock is set", async () => {
  const { says } = machine();
  assert.equal(await says('first', 1_700_000_000), 1_700_000_000);
  assert.equal(await says('first', 1_700_009_999), 1_700_000_000);
  assert.equal(await says('first', 5), 1_700_000_000);
});

test('a boot is later than the one before, whatever the clock says', async () => {
  const { says } = machine();
  await says('first', 1_700_000_000);
  assert.equal(await says('second', 1_600_000_000), 1_700_000_001);
  assert.equal(await says('third', 1_700_000_500), 1_700_000_500);
});

test('a damaged file is told and replaced, and a file that cannot be written stops nothing', async () => {
  const { path, lines, says } = machine();
  writeFileSync(path, '{"bootId": 7}');
  assert.equal(await says('first', 1_700_000_000), 1_700_000_000);
  assert.match(lines.join(), /damaged/);
  assert.equal(await says('first', 5), 1_700_000_000);
  const log = openLog({ name: 'test', destination: { write: (line) => lines.push(line) } });
  assert.equal(await bootTime(join(folder, 'none', 'x'), 'first', log, { readStat: async () => 'btime 9\n' }), 9);
  assert.match(lines.join(), /cannot be remembered/);
});

test('the real /proc/stat tells the time of this boot', async () => {
  const log = openLog({ name: 'test', destination: { write: assert.fail } });
  const at = await bootTime(join(folder, 'real.json'), 'this', log);
  assert.ok(at > 1_000_000_000 && at <= Date.now() / 1000 + 60);
});
