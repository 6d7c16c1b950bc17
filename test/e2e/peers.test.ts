import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { enrol, tamper } from '@keylime/up/story';
import { startTrial } from '@keylime/up/trial';

/** Files below `folder` that have `text` in them. */
async function filesWith(folder: string, text: string): Promise<readonly string[]> {
  const found: string[] = [];
  for (const name of await readdir(folder, { recursive: true })) {
    const file = join(folder, name);
    if ((await stat(file)).isFile() && (await readFile(file)).includes(text)) found.push(name);
  }
  return found;
}

test('peers of a tampered machine act, go on to be attested, and nobody but machines and their operator had the secret', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'peers-'));
  try {
    await using trial = await startTrial({
      folder,
      quoteIntervalSeconds: 0.25,
      machines: ['alpha', 'beta', 'gamma'],
      say: () => {},
    });
    const { attesters, payload, site } = trial;
    const [alpha, ...peers] = attesters;
    assert(alpha);
    for (const attester of attesters) await enrol(trial, attester);
    const caught = await tamper(trial, alpha);
    assert.ok(caught.peer_notified_ms > 0);
    for (const { status, machine } of peers) {
      assert.equal((await status())?.attestation_status, 'PASS', machine.name);
    }
    assert.deepEqual(
      site.webhook.received.map(({ message }) => [message.type, message.agent_id]),
      [['revocation', alpha.id]],
    );
    for (const { keylimeDir, machine } of attesters) {
      const places = (await filesWith(keylimeDir, payload.secret)).map((file) => file.replace(/^secure\/[^/]+\//, ''));
      assert.deepEqual(new Set(places), new Set(['decrypted_payload', 'installed', 'secret']), machine.name);
    }
    assert.deepEqual(await filesWith(folder, payload.secret), [join('payload', 'secret')]);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
