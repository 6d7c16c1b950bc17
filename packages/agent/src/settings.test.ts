import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { loadAgentConfig } from '@keylime/service/config';
import { openLog } from '@keylime/service/log';
import { AgentError } from './agent-error.ts';
import { checkSettings } from './settings.ts';

test('a binary measurement list is refused with the name of the one to take', async (t) => {
  const folder = mkdtempSync(path.join(os.tmpdir(), 'agent-settings-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'agent.conf');
  writeFileSync(file, '[agent]\nima_ml_path = "/sys/kernel/security/ima/binary_runtime_measurements_sha256"\n');
  const env = { KEYLIME_DIR: folder, KEYLIME_AGENT_CONFIG: file };
  const log = openLog({ name: 'keylime.agent', level: 'error', destination: { write: () => {} } });
  await assert.rejects(checkSettings(loadAgentConfig({ env }).config, log, undefined), (error) => {
    assert.ok(error instanceof AgentError);
    assert.equal(error.code, 'file_unreadable');
    assert.match(error.message, /Name ascii_runtime_measurements_sha256/);
    return true;
  });
});
