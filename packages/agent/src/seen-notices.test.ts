import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { parseRevocationNotice } from './revocation-notice.ts';
import { openSeenNotices } from './seen-notices.ts';

const folder = mkdtempSync(join(tmpdir(), 'keylime-seen-'));
after(() => rmSync(folder, { recursive: true }));
const log = openLog({ name: 'agent', destination: { write: () => {} } });

function notice(id: string, at: string) {
  const parsed = parseRevocationNotice(JSON.stringify({ type: 'revocation', notification_id: id, event_time_utc: at }));
  assert.ok(parsed);
  return parsed;
}

test('[MUST] what is forgotten because there was too much is refused by its time', async () => {
  const path = join(folder, 'seen.json');
  const seen = await openSeenNotices(path, log, 2);
  const notices = ['01', '02', '03'].map((day) => notice(day, `2026-08-${day}T00:00:00Z`));
  for (const one of notices) {
    assert.equal(seen.has(one), false);
    await seen.add(one);
  }
  for (const memory of [seen, await openSeenNotices(path, log, 2)]) {
    for (const one of notices) assert.equal(memory.has(one), true);
    assert.equal(memory.has(notice('other', '2026-08-01T00:00:00Z')), true);
    assert.equal(memory.has(notice('other', '2026-08-02T12:00:00Z')), false);
  }
});

test('[MUST] old notices of an existing verifier, which says no UTC, are not acted upon again when they are forgotten', async () => {
  const path = join(folder, 'existing.json');
  const asctime = (second: number) => `Tue Aug  4 10:15:${String(second).padStart(2, '0')} 2026`;
  const of = (fields: Readonly<Record<string, string>>) => {
    const parsed = parseRevocationNotice(JSON.stringify({ type: 'revocation', ...fields }));
    assert.ok(parsed);
    return parsed;
  };
  const dated = Array.from({ length: 5 }, (_, n) => of({ agent_id: `a${n}`, event_time: asctime(n) }));
  const undated = Array.from({ length: 5 }, (_, n) => of({ agent_id: `b${n}` }));
  const seen = await openSeenNotices(path, log, 2);
  for (const one of [...dated, ...undated]) {
    assert.equal(seen.has(one), false);
    await seen.add(one);
  }
  for (const memory of [seen, await openSeenNotices(path, log, 2)]) {
    for (const one of [...dated, ...undated]) assert.equal(memory.has(one), true);
    // Neither clock speaks for the other, nor for notices without a time.
    assert.equal(memory.has(notice('utc', '2026-08-01T00:00:00Z')), false);
    assert.equal(memory.has(of({ agent_id: 'new', event_time: asctime(9) })), false);
    assert.equal(memory.has(of({ agent_id: 'new' })), false);
  }
});
