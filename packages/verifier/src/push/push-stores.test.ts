import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { openDatabase } from '@keylime/service/database';
import { openLog } from '@keylime/service/log';
import { migrate } from '@keylime/service/migrate';
import { writeGroup } from '@keylime/service/write-group';
import { startPostgres } from '@keylime/testing/postgres';
import { softwareAk } from '@keylime/testing/software-ak';
import { encodePublic, objectName } from '@keylime/tpm/public';
import type { Agent } from '../agent.ts';
import { insertAgent } from '../agent-store.ts';
import { systemClock } from '../clock.ts';
import { verifierMigrations } from '../migrations.ts';
import { insertPolicy } from '../policy-store.ts';
import type { VerifierTables } from '../tables.ts';
import { sampleAgent } from '../testing/sample-agent.ts';
import { type NewAttestation, sqlAttestationStore } from './attestation-store.ts';
import { sqlSessionStore } from './session-store.ts';
import { openSessions } from './sessions.ts';

const folder = await mkdtemp(join(tmpdir(), 'verifier-push-'));
const postgres = await startPostgres();
after(async () => {
  await postgres.stop();
  await rm(folder, { recursive: true });
});

const ak = softwareAk({ encryption: 'ecc256' });
const publicOf = (key: typeof ak) => encodePublic(key.public).toString('base64');

for (const [engine, url] of [
  ['SQLite', 'sqlite'],
  ['PostgreSQL', postgres.url],
] as const) {
  describe(`what is stored of agents that push on ${engine}`, async () => {
    const db = await openDatabase<VerifierTables>({ url, workDir: folder, program: 'verifier' });
    await migrate(db, { program: 'verifier', migrations: verifierMigrations });
    const group = writeGroup(db, { maxDelayMs: 1 });
    after(async () => {
      await group.close();
      await db.destroy();
    });
    const attestations = sqlAttestationStore(db, group.submit);
    const store = sqlSessionStore(db, group.submit);

    async function enrolled(name: string): Promise<Agent> {
      const agent: Agent = { ...sampleAgent(name), mode: 'push', verifierId: 'mine', akTpm: publicOf(ak) };
      await group.submit(async (trx) => {
        const policy = { name, text: '{}', checksum: name, generator: 3, signature_key: null };
        await insertPolicy(trx, 'runtime_policies', policy);
        await insertAgent(trx, agent);
      });
      return agent;
    }
    const begun = ({ id }: Agent): NewAttestation => ({
      agentId: id,
      verifierId: 'mine',
      chosen: {} as NewAttestation['chosen'],
      offered: { evidence: [], bootTime: '' },
      capabilitiesAtMs: 1000,
      challengeExpiresAtMs: 2000,
    });
    const evidence = (atMs: number) => ({
      ...{ atMs, digest: `${atMs}`, body: Buffer.from('evidence') },
      collected: { message: '', signature: '', subjectData: '' },
    });

    test('[MUST] of two at the same time one begins, and evidence is taken once, in time', async () => {
      const agent = await enrolled('racing');
      const both = await Promise.all([
        attestations.open(begun(agent), undefined),
        attestations.open(begun(agent), undefined),
      ]);
      const [opened, ...more] = both.filter((one) => one !== undefined);
      assert.ok(opened !== undefined && more.length === 0);
      assert.equal(await attestations.submit(opened, evidence(2000)), false, 'the challenge has expired');
      assert.deepEqual(
        await Promise.all([attestations.submit(opened, evidence(1500)), attestations.submit(opened, evidence(1501))]),
        [true, false],
      );
      assert.deepEqual(await attestations.unjudged('mine'), ['racing']);
      assert.deepEqual(await attestations.unjudged('other'), []);
      assert.equal((await attestations.evidence(opened))?.toString(), 'evidence');
    });

    test('of each boot the first attestation that passed and the newest are kept, and evidence not at all', async () => {
      const agent = await enrolled('kept');
      for (const resetCount of [1, 1, 1, 1, 2, 2, 2]) {
        const opened = await attestations.open(begun(agent), await attestations.latest(agent.id));
        assert.ok(opened);
        await attestations.submit(opened, evidence(1500));
        const conclusion = { completedAtMs: 1600, failureReason: undefined, failures: [], resetCount };
        await group.submit((trx) => attestations.conclude(trx, opened, { evaluation: 'pass', ...conclusion }));
        assert.equal(await attestations.evidence(opened), undefined);
      }
      assert.deepEqual(
        (await attestations.page(agent.id, undefined, 50)).map(({ number }) => number),
        [6, 4, 3, 0],
      );
    });

    test('[MUST] a token is worth nothing when the agent has another AK, and is taken once', async () => {
      const agent = await enrolled('replaced');
      let current = agent;
      const sessions = openSessions({
        store,
        agents: { findOfAnyVerifier: async () => current },
        settings: {
          ...{ challengeLifetimeMs: 60_000, tokenLifetimeMs: 60_000 },
          perAddress: { count: 10, windowSeconds: 60 },
          wrongProofs: { count: 10, windowSeconds: 60 },
        },
        clock: systemClock,
        log: openLog({ name: 'test', level: 'critical', destination: { write: () => {} } }),
      });
      const started = await sessions.begin('replaced');
      assert.ok(started.kind === 'begun');
      const { id, challenge } = started.session;
      const { attest, signature } = ak.certify(objectName(ak.public), challenge);
      const proof = { message: attest.toString('base64'), signature: signature.toString('base64') };
      const answers = await Promise.all([1, 2].map(() => sessions.prove(id, 'replaced', proof, 'address')));
      const proved = answers.find(({ kind }) => kind === 'proved');
      assert.deepEqual(answers.map(({ kind }) => kind).sort(), ['already_active', 'proved']);
      assert.ok(proved?.kind === 'proved');
      assert.deepEqual(await sessions.verifyToken(proved.token), { agentId: 'replaced' });
      current = { ...agent, akTpm: publicOf(softwareAk({ encryption: 'ecc256' })) };
      assert.equal(await sessions.verifyToken(proved.token), 'Invalid authentication token');
    });
  });
}
