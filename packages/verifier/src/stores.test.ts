import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { openDatabase } from '@keylime/service/database';
import { parseDatabaseUrl } from '@keylime/service/database-url';
import { migrate } from '@keylime/service/migrate';
import { writeGroup } from '@keylime/service/write-group';
import { startPostgres } from '@keylime/testing/postgres';
import type { Kysely } from 'kysely';
import type { Agent } from './agent.ts';
import { type AgentStore, insertAgent, sqlAgentStore } from './agent-store.ts';
import { verifierMigrations } from './migrations.ts';
import { sqlDeadLetters } from './notifications/dead-letters.ts';
import { LONGEST_WAIT_MS, type NewDelivery, type Outbox, sqlOutbox, sqlSpreadStore } from './notifications/outbox.ts';
import { acquireOwnership } from './ownership.ts';
import { insertPolicy, type PolicyStore, sqlPolicyStore } from './policy-store.ts';
import type { VerifierTables } from './tables.ts';
import { sampleAgent } from './testing/sample-agent.ts';

const folder = await mkdtemp(join(tmpdir(), 'verifier-stores-'));
const postgres = await startPostgres();
after(async () => {
  await postgres.stop();
  await rm(folder, { recursive: true });
});

for (const [engine, url] of [
  ['SQLite', 'sqlite'],
  ['PostgreSQL', postgres.url],
] as const) {
  describe(`the verifier's stores on ${engine}`, () => {
    const corrupt: string[] = [];
    const open = () => openDatabase<VerifierTables>({ url, workDir: folder, program: 'verifier' });
    let db: Kysely<VerifierTables>;
    let group: ReturnType<typeof writeGroup<VerifierTables>>;
    let agents: AgentStore;
    let others: AgentStore;
    let policies: PolicyStore;
    let outbox: Outbox;

    before(async () => {
      db = await open();
      await migrate(db, { program: 'verifier', migrations: verifierMigrations });
      group = writeGroup(db, { maxDelayMs: 1 });
      agents = sqlAgentStore(db, group.submit, 'mine', (error) => corrupt.push(error.message));
      others = sqlAgentStore(db, group.submit, 'other');
      policies = sqlPolicyStore(db, group.submit, 'runtime_policies');
      outbox = sqlOutbox(db, group.submit, 'mine', { channel: 'webhook', to: 'receiver' });
    });
    after(async () => {
      await group.close();
      await db.destroy();
    });

    async function enrolled(name: string, policyName = name): Promise<Agent> {
      const agent: Agent = { ...sampleAgent(name), verifierId: 'mine', runtimePolicyName: policyName };
      await group.submit(async (trx) => {
        await insertPolicy(trx, 'runtime_policies', {
          name: policyName,
          text: '{}',
          checksum: 'c',
          generator: 3,
          signature_key: null,
        });
        await insertAgent(trx, agent);
      });
      return agent;
    }
    const delivery = (agentId: string, body: string, at = 1000): NewDelivery => ({
      notificationId: `${agentId}-${body}`,
      agentId,
      channel: 'webhook',
      body,
      createdAtMs: at,
    });

    test('an agent comes back as it was stored, with everything that is remembered of it', async () => {
      const agent = await enrolled('whole');
      const record = {
        ...agent,
        state: 'invalidQuote' as const,
        attestationCount: 3,
        severityLevel: 6,
        lastEventId: 'ima.pcr_mismatch',
        lastFailures: [{ eventId: 'ima.pcr_mismatch', recoverable: true, context: { message: 'ünïcode' } }],
        progress: {
          nextEntry: 12,
          runningPcr: Buffer.alloc(32, 7),
          bank: 'sha256' as const,
          clock: { clock: 2n ** 60n, resetCount: 4, restartCount: 1, safe: true },
          transportKeyPem: 'PEM',
          quoteProgress: { matched: 3, length: 4 },
          bootTime: 99,
          policyChecksum: 'abc',
          boot: 'def',
        },
      };
      const saved = await agents.saveRound(agent, record, []);
      assert.deepEqual(saved, { ...record, revision: 2 });
      assert.deepEqual(await agents.find(agent.id), { ...record, revision: 2 });
    });

    test('a write about an older revision stores nothing, not even its notification', async () => {
      const agent = await enrolled('guarded');
      assert.ok(await agents.change(agent.id, (found) => ({ ...found, state: 'tenantFailed' })));
      const late = await agents.saveRound(agent, { ...agent, state: 'getQuote' }, [delivery('guarded', 'late')]);
      assert.equal(late, undefined);
      assert.equal((await agents.find(agent.id))?.state, 'tenantFailed');
      assert.deepEqual(await outbox.due(2000, 10, []), []);
    });

    test('a write about an agent that was deleted does not bring it back', async () => {
      const agent = await enrolled('deleted');
      assert.equal(await agents.remove(agent.id), true);
      assert.equal(await agents.saveRound(agent, agent, []), undefined);
      assert.equal(await agents.find(agent.id), undefined);
      assert.equal(await agents.remove(agent.id), false);
    });

    test('a deleted agent takes its own policy with it, and leaves a shared one', async () => {
      const own = await enrolled('with-own');
      const shared = await enrolled('with-shared', 'shared policy');
      await agents.remove(own.id);
      await agents.remove(shared.id);
      assert.equal(await policies.find('with-own'), undefined);
      assert.equal((await policies.find('shared policy'))?.name, 'shared policy');
    });

    test('measured-boot policies: of null and text, in use until the last agent is gone, own ones go with theirs', async () => {
      const mbPolicies = sqlPolicyStore(db, group.submit, 'mb_policies');
      const policy = { name: 'mb', text: null, checksum: 'c', rules: null };
      assert.equal(await mbPolicies.create(policy), true);
      assert.equal(await mbPolicies.create({ ...policy, text: '{}' }), false);
      assert.deepEqual(await mbPolicies.find('mb'), policy);
      const changed = { ...policy, text: '{"a": 1}', rules: 'strict', checksum: 'd' };
      assert.equal(await mbPolicies.replace(changed), true);
      assert.equal(await mbPolicies.replace({ ...changed, name: 'none' }), false);
      assert.deepEqual(await mbPolicies.find('mb'), changed);
      const enrolWith = async (name: string, mbPolicyName: string) => {
        const agent: Agent = { ...sampleAgent(name), verifierId: 'mine', runtimePolicyName: name, mbPolicyName };
        await group.submit(async (trx) => {
          await insertPolicy(trx, 'runtime_policies', {
            name,
            text: '{}',
            checksum: 'c',
            generator: 3,
            signature_key: null,
          });
          await insertPolicy(trx, 'mb_policies', { name: mbPolicyName, text: null, checksum: 'c', rules: null });
          await insertAgent(trx, agent);
        });
        return agent;
      };
      const [shared, own] = [await enrolWith('mb-shared', 'mb'), await enrolWith('mb-own', 'mb-own')];
      assert.equal((await agents.find(own.id))?.mbPolicyName, 'mb-own');
      assert.deepEqual(await mbPolicies.remove('mb'), { usedBy: 'mb-shared' });
      for (const { id } of [shared, own]) assert.equal(await agents.remove(id), true);
      assert.deepEqual(await mbPolicies.listNames(), ['mb']);
      assert.equal(await mbPolicies.remove('mb'), 'removed');
      assert.equal(await mbPolicies.remove('mb'), 'unknown');
    });

    test('agents of another verifier name are not seen', async () => {
      const agent = await enrolled('private');
      assert.equal(await others.find(agent.id), undefined);
      assert.equal(await others.remove(agent.id), false);
      assert.deepEqual(await others.list(), []);
    });

    test('a damaged row is told and does not take the others with it', async () => {
      const agent = await enrolled('damaged');
      await enrolled('intact');
      await db.updateTable('agents').set({ operational_state: 99 }).where('agent_id', '=', agent.id).execute();
      const ids = (await agents.list()).map(({ id }) => id);
      assert.ok(ids.some((id) => id === 'intact'));
      assert.ok(!ids.some((id) => id === 'damaged'));
      assert.match(corrupt.join(), /agent damaged is damaged in column operational_state/);
      await agents.listIds();
      await db.deleteFrom('agents').where('agent_id', '=', agent.id).execute();
    });

    test('a policy that an agent uses stays', async () => {
      await enrolled('user', 'in use');
      assert.deepEqual(await policies.remove('in use'), { usedBy: 'user' });
      assert.equal(await policies.remove('nobody'), 'unknown');
      assert.equal(
        await policies.create({ name: 'in use', text: '', checksum: '', generator: 1, signature_key: null }),
        false,
      );
      assert.equal(
        await policies.replace({ name: 'nobody', text: '', checksum: '', generator: 1, signature_key: null }),
        false,
      );
    });

    test('notifications of one agent come one at a time, in order, and later ones wait behind a failed one', async () => {
      let a = await enrolled('notify-a');
      const b = await enrolled('notify-b');
      a = (await agents.saveRound(a, a, [delivery('notify-a', '1')])) ?? a;
      a = (await agents.saveRound(a, a, [delivery('notify-a', '2')])) ?? a;
      await agents.saveRound(b, b, [delivery('notify-b', '3')]);
      const first = await outbox.due(1000, 10, []);
      assert.deepEqual(
        first.map(({ body }) => body),
        ['1', '3'],
      );
      const [one, three] = first;
      assert.ok(one && three);
      await outbox.failed(one.sequence, 'down', 5000);
      await outbox.delivered(three.sequence);
      assert.deepEqual(await outbox.due(4999, 10, []), []);
      assert.equal(await outbox.nextDueMs([]), 5000);
      assert.equal((await outbox.due(5000, 10, []))[0]?.attempts, 1);
      await outbox.failed(one.sequence, 'given up', undefined);
      const [two] = await outbox.due(5000, 10, []);
      assert.equal(two?.body, '2');
      await outbox.delivered(two.sequence);
      assert.equal(await outbox.nextDueMs([]), undefined);
    });

    test('how far a notification was spread is kept, and who missed it is told by itself, and waited for', async () => {
      const agent = await enrolled('spread');
      await agents.saveRound(agent, agent, [{ ...delivery('spread', 'x'), channel: 'agent' }]);
      const toAll = sqlOutbox(db, group.submit, 'mine', { channel: 'agent', to: 'receiver' });
      const toPeers = sqlOutbox(db, group.submit, 'mine', { channel: 'agent', to: 'peer' });
      const spreads = sqlSpreadStore(db, group.submit, 'mine');
      const [first] = await toAll.due(1000, 10, []);
      assert.ok(first);
      assert.equal(first.spreadUpTo, undefined);
      await spreads.spread(first, { upTo: 'p5', missed: [{ target: 'p3', error: 'down' }] });
      assert.equal((await toAll.due(1000, 10, []))[0]?.spreadUpTo, 'p5');
      const [missed] = await toPeers.due(1000, 10, []);
      assert.deepEqual([missed?.target, missed?.body, missed?.agentId], ['p3', 'x', 'spread']);
      assert.deepEqual(await spreads.waitingPeers(), new Set(['p3']));
      await toAll.delivered(first.sequence);
      await toPeers.failed(missed?.sequence ?? 0, 'no ear', undefined);
      assert.deepEqual(await spreads.waitingPeers(), new Set());
      assert.deepEqual(await toPeers.due(1000, 10, []), []);
    });

    test('what was given up is listed, replayed as if it were new, and forgotten, by its own verifier only', async () => {
      const agent = await enrolled('dead');
      const letters = sqlDeadLetters(db, group.submit, 'mine');
      const count = async () => (await letters.count()).find(({ channel }) => channel === 'webhook')?.count ?? 0;
      const before = await count();
      await agents.saveRound(agent, agent, [delivery('dead', 'x')]);
      const [one] = await outbox.due(1000, 10, []);
      assert.ok(one);
      await outbox.failed(one.sequence, 'down', undefined);
      assert.equal(await count(), before + 1);
      const found = (await letters.list(one.sequence - 1, 10))[0];
      assert.deepEqual([found?.id, found?.agentId, found?.error], [one.sequence, 'dead', 'down']);
      const strangers = sqlDeadLetters(db, group.submit, 'other');
      assert.deepEqual(
        [await strangers.count(), await strangers.replay('all', 1), await strangers.discard(one.sequence)],
        [[], 0, false],
      );
      assert.equal(await letters.replay([one.sequence], 3000), 1);
      const waiting = (await letters.waiting()).find(({ channel }) => channel === 'webhook');
      assert.deepEqual([waiting?.count, waiting?.oldestAtMs], [1, 1000]);
      const [again] = await outbox.due(3000, 10, []);
      assert.deepEqual([again?.sequence, again?.attempts], [one.sequence, 0]);
      await outbox.failed(one.sequence, 'down', undefined);
      assert.equal(await letters.discard(one.sequence), true);
      assert.equal(await count(), before);
    });

    test('[MUST] a clock that was set back holds up nothing that waits', async () => {
      const agent = await enrolled('time-travel');
      const at = 1_000_000_000_000;
      await agents.saveRound(agent, agent, [delivery('time-travel', 'x', at)]);
      const [first] = await outbox.due(at, 10, []);
      assert.ok(first);
      await outbox.failed(first.sequence, 'down', at + LONGEST_WAIT_MS);
      assert.deepEqual(await outbox.due(at, 10, []), []);
      assert.equal((await outbox.due(at - 1, 10, []))[0]?.body, 'x');
      await outbox.delivered(first.sequence);
    });

    test('one process at a time is a verifier, and the next takes over when it is released', async () => {
      const second = await open();
      const target = parseDatabaseUrl(url, folder, 'verifier');
      const owner = await acquireOwnership({
        db,
        target,
        verifierId: 'mine',
        waiting: () => assert.fail('it was free'),
      });
      let waited = false;
      const next = acquireOwnership({
        db: second,
        target,
        verifierId: 'mine',
        waiting: () => {
          waited = true;
          void owner.release();
        },
      });
      const other = await acquireOwnership({
        db: second,
        target,
        verifierId: 'another',
        waiting: () => assert.fail('free'),
      });
      const taken = await next;
      assert.equal(waited, true);
      await Promise.all([taken.release(), other.release()]);
      await second.destroy();
    });
  });
}
