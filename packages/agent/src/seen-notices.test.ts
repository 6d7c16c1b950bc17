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
