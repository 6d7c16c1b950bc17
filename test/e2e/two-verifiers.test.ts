import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { startPostgres } from '@keylime/testing/postgres';
import { enrol, tamper } from '@keylime/up/story';
import { startTrial } from '@keylime/up/trial';
import { until } from '@keylime/up/until';

test('two verifiers on one PostgreSQL attest the machines enrolled at each, and only the one concerned raises the alarm', async () => {
  const postgres = await startPostgres();
  const folder = await mkdtemp(join(tmpdir(), 'two-verifiers-'));
  try {
    await using trial = await startTrial({
      folder,
      quoteIntervalSeconds: 0.25,
      machines: ['alpha', 'beta'],
      verifiers: 2,
      databaseUrl: postgres.url,
      say: () => {},
    });
    const { site, broken } = trial;
    const [alpha, beta] = trial.attesters;
    assert(alpha && beta);
    for (const attester of [alpha, beta]) await enrol(trial, attester);
    assert.deepEqual([alpha.verifier, beta.verifier], [0, 1]);
    const listed = async (verifier: number) => (await site.operator.read(verifier, '/v2.6/agents/'))?.uuids;
    assert.deepEqual([await listed(0), await listed(1)], [[[alpha.id]], [[beta.id]]]);
    assert.equal(await site.operator.read(1, `/v2.6/agents/${alpha.id}`), undefined);

    const caught = await tamper(trial, beta);
    assert.equal(caught.event_id, 'ima.validation.ima-ng.not_in_allowlist');
    const count = async () => Number((await alpha.status())?.attestation_count);
    const before = await count();
    const again = async () => ((await count()) > before + 1 ? true : undefined);
    await until(again, 'alpha to pass again', { broken, timeoutMs: 10_000 });
    assert.equal((await alpha.status())?.attestation_status, 'PASS');
    assert.deepEqual(
      site.webhook.received.map(({ message }) => message.agent_id),
      [beta.id],
    );
  } finally {
    await postgres.stop();
    await rm(folder, { recursive: true, force: true });
  }
});
