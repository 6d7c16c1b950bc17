import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import { openDatabase } from '@keylime/service/database';
import { openLog } from '@keylime/service/log';
import { migrate } from '@keylime/service/migrate';
import { writeGroup } from '@keylime/service/write-group';
import { type Postgres, startPostgres } from '@keylime/testing/postgres';
import type { AgentStore, PendingRegistration } from './agent-store.ts';
import { digestOfTag } from './challenge.ts';
import { type SoftwareTpm, softwareTpm } from './forge-registration.ts';
import { DEFAULT_LIMITS, type Limits } from './limits.ts';
import { makeRegistrar, type Registrar } from './registrar.ts';
import { type RegistrarTables, registrarMigrations } from './schema.ts';
import { sqlAgentStore } from './sql-agent-store.ts';

const id = (text: string): AgentId => {
  const parsed = parseAgentId(text);
  assert.ok(parsed);
  return parsed;
};
let counter = 0;
const freshId = () => id(`agent-${counter++}`);
const log = openLog({ name: 'test', destination: { write: () => {} } });

let clock = 1_000_000_000_000;
let folder = '';
let postgres: Postgres;
before(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'registrar-'));
  postgres = await startPostgres();
});
after(async () => {
  await postgres.stop();
  await rm(folder, { recursive: true });
});

for (const engine of ['sqlite', 'postgresql'] as const) {
  describe(`the registrar over ${engine}`, () => {
    const cleanups: (() => Promise<void>)[] = [];
    after(async () => {
      for (const cleanup of cleanups.toReversed()) await cleanup();
    });

    /** Another registrar process on the same database. */
    async function openStore(): Promise<AgentStore> {
      const url = engine === 'sqlite' ? 'sqlite' : postgres.url;
      const db = await openDatabase<RegistrarTables>({ url, workDir: folder, program: 'registrar' });
      const writes = writeGroup(db);
      await migrate(db, { program: 'registrar', migrations: registrarMigrations });
      cleanups.push(async () => {
        await writes.close();
        await db.destroy();
      });
      return sqlAgentStore(db, writes);
    }
    async function open(limits: Partial<Limits> = {}): Promise<Registrar> {
      return makeRegistrar({
        store: await openStore(),
        policy: { tpmIdentity: 'ek_cert_or_iak_idevid', malformedCertAction: 'warn' },
        anchors: async () => [],
        limits: { ...DEFAULT_LIMITS, ...limits },
        log,
        now: () => clock,
      });
    }
    async function challenge(registrar: Registrar, agentId: AgentId, body: unknown, source = 'home'): Promise<string> {
      const outcome = await registrar.register(agentId, body, source);
      assert.equal(outcome.kind, 'challenged');
      return outcome.kind === 'challenged' ? outcome.blob.toString('base64') : '';
    }
    async function enrol(registrar: Registrar, agentId: AgentId, tpm: SoftwareTpm, more: Record<string, unknown> = {}) {
      const tag = tpm.answer(await challenge(registrar, agentId, tpm.body(more)), agentId);
      assert.equal((await registrar.activate(agentId, tag, 'home')).kind, 'activated');
      return tag;
    }
    async function record(registrar: Registrar, agentId: AgentId) {
      const found = await registrar.find(agentId);
      assert.equal(found.kind, 'active');
      return found.kind === 'active' ? found.agent : assert.fail();
    }

    test('an agent is pending until its TPM has answered, then active; both are listed', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      assert.deepEqual(await registrar.find(agentId), { kind: 'unknown' });
      const blob = await challenge(registrar, agentId, tpm.body());
      assert.deepEqual(await registrar.find(agentId), { kind: 'pending' });
      assert.ok((await registrar.list()).includes(agentId));
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'elsewhere')).kind, 'activated');
      assert.equal((await record(registrar, agentId)).regcount, 1);
      assert.equal((await registrar.list()).filter((one) => one === agentId).length, 1);
    });

    test('a repeated activation is acknowledged for a while and changes nothing', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const tag = await enrol(registrar, agentId, tpm);
      const before = await record(registrar, agentId);
      assert.equal((await registrar.activate(agentId, tag, 'home')).kind, 'activated');
      assert.deepEqual(await record(registrar, agentId), before);
      clock += DEFAULT_LIMITS.challengeLifetimeMs;
      assert.equal((await registrar.activate(agentId, tag, 'home')).kind, 'tag_mismatch');
      assert.deepEqual(await record(registrar, agentId), before);
    });

    test('a challenge expires', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const blob = await challenge(registrar, agentId, tpm.body());
      clock += DEFAULT_LIMITS.challengeLifetimeMs;
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'unknown');
      assert.ok(!(await registrar.list()).includes(agentId));
    });

    test('a new registration of an active agent leaves its record as it is until it is activated', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      await enrol(registrar, agentId, tpm);
      const before = await record(registrar, agentId);
      const blob = await challenge(registrar, agentId, tpm.body({ ip: '6.6.6.6' }));
      assert.deepEqual(await record(registrar, agentId), before);
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'activated');
      const after = await record(registrar, agentId);
      assert.deepEqual([after.registration.ip, after.regcount], ['6.6.6.6', 2]);
    });

    test('contact data alone is staged on top of the record, and does not count as a registration', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      await enrol(registrar, agentId, tpm);
      const blob = await challenge(registrar, agentId, { ip: '10.1.1.1', port: 1 });
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'activated');
      const { registration, regcount } = await record(registrar, agentId);
      assert.deepEqual(
        [registration.ip, registration.port, registration.mtlsCertificate, regcount],
        ['10.1.1.1', 1, 'disabled', 1],
      );
    });

    test('a wrong tag leaves the record and the challenges of other addresses', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      await enrol(registrar, agentId, tpm);
      const before = await record(registrar, agentId);
      const blob = await challenge(registrar, agentId, tpm.body());
      await challenge(registrar, agentId, tpm.body({ ip: '6.6.6.6' }), 'attacker');
      assert.equal((await registrar.activate(agentId, '00', 'attacker')).kind, 'tag_mismatch');
      assert.deepEqual(await record(registrar, agentId), before);
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'activated');
    });

    test('a wrong tag voids the challenges of its own address', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const blob = await challenge(registrar, agentId, tpm.body());
      assert.equal((await registrar.activate(agentId, '00', 'home')).kind, 'tag_mismatch');
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'unknown');
    });

    test('registrations of one address do not push out the challenge of another', async () => {
      const registrar = await open({ perAgentAndAddress: { burst: 100, perMinute: 100 } });
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const blob = await challenge(registrar, agentId, tpm.body());
      for (let i = 0; i < 20; i++) await challenge(registrar, agentId, tpm.body({ ip: '6.6.6.6' }), 'attacker');
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'activated');
    });

    test('the number of open challenges is bounded: per address, per agent and in all', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const blobs: string[] = [];
      for (let i = 0; i < DEFAULT_LIMITS.pendingPerAgentAndAddress + 1; i++) {
        clock++;
        blobs.push(await challenge(registrar, agentId, tpm.body()));
      }
      assert.equal(
        (await registrar.activate(agentId, tpm.answer(blobs[0] ?? '', agentId), 'else')).kind,
        'tag_mismatch',
      );
      for (let i = 0; i < DEFAULT_LIMITS.pendingPerAgent; i++) {
        clock++;
        await challenge(registrar, agentId, tpm.body(), `address ${i}`);
      }
      assert.equal(
        (await registrar.activate(agentId, tpm.answer(blobs[2] ?? '', agentId), 'else')).kind,
        'tag_mismatch',
      );
      const crowded = await open({ pendingInAll: 1 });
      clock++;
      const last = freshId();
      await challenge(crowded, last, tpm.body());
      assert.deepEqual(await crowded.find(agentId), { kind: 'unknown' });
      assert.deepEqual(await crowded.find(last), { kind: 'pending' });
    });

    test('another TPM is refused for an active agent, and does not get in by an older challenge either', async () => {
      const [one, two] = [await open(), await open()];
      const [first, second, agentId] = [softwareTpm(), softwareTpm(), freshId()];
      const blob = await challenge(two, agentId, second.body(), 'second');
      const answer = second.answer(blob, agentId);
      // Both are asked before either has answered; the activation of the first voids what else is pending.
      await enrol(one, agentId, first);
      assert.equal((await two.activate(agentId, answer, 'second')).kind, 'tag_mismatch');
      assert.deepEqual(await two.register(agentId, second.body(), 'second'), { kind: 'identity_changed' });
      assert.equal(
        (await record(two, agentId)).registration.ekPublic.equals(Buffer.from(String(first.body().ek_tpm), 'base64')),
        true,
      );
    });

    test('of two TPMs that answer at the same moment at two registrars one gets the id', async () => {
      const [one, two] = [await open(), await open()];
      for (let round = 0; round < 5; round++) {
        const agentId = freshId();
        const tpms = [softwareTpm(), softwareTpm()] as const;
        const tags = [
          tpms[0].answer(await challenge(one, agentId, tpms[0].body(), 'a'), agentId),
          tpms[1].answer(await challenge(two, agentId, tpms[1].body(), 'b'), agentId),
        ] as const;
        const outcomes = await Promise.all([one.activate(agentId, tags[0], 'a'), two.activate(agentId, tags[1], 'b')]);
        const winners = outcomes.filter(({ kind }) => kind === 'activated');
        assert.equal(winners.length, 1, JSON.stringify(outcomes));
        const winner = tpms[outcomes.findIndex(({ kind }) => kind === 'activated')];
        const stored = (await record(one, agentId)).registration.ekPublic.toString('base64');
        assert.equal(stored, winner?.body().ek_tpm);
      }
    });

    test('[MUST R2] a registration of another TPM that was staged too late does not replace the record', async () => {
      const [store, registrar] = [await openStore(), await open()];
      const [first, second, agentId] = [softwareTpm(), softwareTpm(), freshId()];
      await enrol(registrar, agentId, first);
      const before = await record(registrar, agentId);
      // As if it had been judged before the first TPM was activated, and written after.
      const late: PendingRegistration = {
        key: `late ${engine}`,
        agentId,
        source: 'second',
        registration: { ...before.registration, akPublic: Buffer.from(String(second.body().aik_tpm), 'base64') },
        counts: true,
        tagDigest: digestOfTag('tag'),
        createdAt: clock,
        expiresAt: clock + 1000,
      };
      await store.stage(late, DEFAULT_LIMITS);
      assert.deepEqual(await registrar.activate(agentId, 'tag', 'second'), { kind: 'identity_taken' });
      assert.deepEqual(await record(registrar, agentId), before);
      assert.equal(await store.promote(late, clock), 'gone');
    });

    test('the same answer sent to two registrars at the same moment activates once', async () => {
      const [one, two] = [await open(), await open()];
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const tag = tpm.answer(await challenge(one, agentId, tpm.body()), agentId);
      const outcomes = await Promise.all([one.activate(agentId, tag, 'a'), two.activate(agentId, tag, 'b')]);
      assert.deepEqual(outcomes, [{ kind: 'activated' }, { kind: 'activated' }]);
      assert.equal((await record(one, agentId)).regcount, 1);
    });

    test('many agents register and activate at the same time', async () => {
      const [one, two] = [await open(), await open()];
      const tpm = softwareTpm();
      const ids = Array.from({ length: 40 }, freshId);
      await Promise.all(ids.map((agentId, i) => enrol(i % 2 === 0 ? one : two, agentId, tpm)));
      const listed = await one.list();
      assert.ok(ids.every((agentId) => listed.includes(agentId)));
    });

    test('a removed agent is gone with what is pending for it', async () => {
      const registrar = await open();
      const [tpm, agentId] = [softwareTpm(), freshId()];
      await enrol(registrar, agentId, tpm);
      const blob = await challenge(registrar, agentId, tpm.body());
      assert.equal(await registrar.remove(agentId), true);
      assert.equal(await registrar.remove(agentId), false);
      assert.equal((await registrar.activate(agentId, tpm.answer(blob, agentId), 'home')).kind, 'unknown');
    });

    test('one address may register an agent, and send wrong tags for it, so often and not more', async () => {
      const limits = { perAgentAndAddress: { burst: 2, perMinute: 1 }, wrongTags: { burst: 2, perMinute: 1 } };
      const registrar = await open(limits);
      const [tpm, agentId] = [softwareTpm(), freshId()];
      const ask = async (source: string) => (await registrar.register(agentId, tpm.body(), source)).kind;
      assert.deepEqual([await ask('a'), await ask('a'), await ask('a')], ['challenged', 'challenged', 'too_many']);
      assert.equal(await ask('b'), 'challenged');
      const wrong = async (source: string) => (await registrar.activate(agentId, 'ff', source)).kind;
      assert.deepEqual(
        [await wrong('c'), await wrong('c'), await wrong('c')],
        ['tag_mismatch', 'tag_mismatch', 'too_many'],
      );
      assert.equal(await wrong('d'), 'tag_mismatch');
    });
  });
}
