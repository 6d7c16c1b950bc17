import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startPostgres } from '@keylime/testing/postgres';
import { hasNoted } from '@keylime/up/payload';
import { enrol, tamper } from '@keylime/up/story';
import { startTrial } from '@keylime/up/trial';
import { until } from '@keylime/up/until';

test('two verifiers on one PostgreSQL attest the machines enrolled at each, and only the one concerned raises the alarm, with its own machines', async () => {
  const postgres = await startPostgres();
  const folder = await mkdtemp(join(tmpdir(), 'two-verifiers-'));
  try {
    await using trial = await startTrial({
      folder,
      quoteIntervalSeconds: 0.25,
      machines: ['alpha', 'beta', 'gamma'],
      verifiers: 2,
      databaseUrl: postgres.url,
      say: () => {},
    });
    const { site, broken } = trial;
    const [alpha, peer, other] = trial.attesters;
    assert(alpha && peer && other);
    for (const attester of [alpha, peer, other]) await enrol(trial, attester);
    assert.deepEqual([alpha.verifier, peer.verifier, other.verifier], [0, 0, 1]);
    const listed = async (verifier: number) => (await site.operator.read(verifier, '/v2.6/agents/'))?.uuids;
    const ofFirst = [alpha.id, peer.id].toSorted().map((id) => [id]);
    assert.deepEqual([await listed(0), await listed(1)], [ofFirst, [[other.id]]]);
    assert.equal(await site.operator.read(1, `/v2.6/agents/${alpha.id}`), undefined);

    const caught = await tamper(trial, alpha);
    assert.equal(caught.event_id, 'ima.validation.ima-ng.not_in_allowlist');
    const count = async () => Number((await other.status())?.attestation_count);
    const before = await count();
    const again = async () => ((await count()) > before + 1 ? true : undefined);
    await until(again, 'the machine of the other verifier to pass again', { broken, timeoutMs: 10_000 });
    assert.equal((await other.status())?.attestation_status, 'PASS');
    assert.equal(await hasNoted(other.keylimeDir, alpha.id), false);
    assert.deepEqual(
      site.webhook.received.map(({ message }) => message.agent_id),
      [alpha.id],
    );
  } finally {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
