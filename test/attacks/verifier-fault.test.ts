import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startPostgres } from '@keylime/testing/postgres';
import {
  type AttackedVerifier,
  GET_QUOTE,
  INVALID_QUOTE,
  STOPPED,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';

/*
 * Hole 12: a fault of the database, of the process or of the machine below becomes no verdict, loses none, and does not
 * stop attestation once it is over.
 */
async function started(t: TestContext, options: VerifierOptions = {}): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier(options);
  t.after(() => verifier.stop());
  return verifier;
}

/** The verifier ends before its database. */
async function startedOnPostgres(t: TestContext, options: VerifierOptions = {}) {
  const postgres = await startPostgres();
  let verifier: AttackedVerifier | undefined;
  t.after(async () => {
    await verifier?.stop();
    await postgres.stop();
  });
  verifier = await startAttackedVerifier({ ...options, settings: { database_url: postgres.url } });
  return { postgres, verifier };
}

const databaseOf = (verifier: AttackedVerifier) =>
  new DatabaseSync(`${verifier.folder}/verifier.sqlite`, { timeout: 5000 });

async function twoAgents(verifier: AttackedVerifier) {
  const [good, bad] = [await verifier.agent('good'), await verifier.agent('bad')];
  for (const agent of [good, bad]) {
    await verifier.enrol(agent);
    await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  }
  return { good, bad };
}

/** Both agents are attested as if nothing had been: the good one passes, the bad one was caught. */
async function assertRecovered(verifier: AttackedVerifier): Promise<void> {
  const { attestation_count: count } = await verifier.status('good');
  const good = await verifier.until('good', ({ attestation_count }) => attestation_count > count + 2);
  assert.deepEqual([good.operational_state, good.last_event_id, good.last_failures], [GET_QUOTE, null, []]);
  const bad = await verifier.until('bad', ({ operational_state }) => operational_state > GET_QUOTE);
  assert.deepEqual(
    [bad.operational_state, bad.last_event_id],
    [INVALID_QUOTE, 'ima.validation.ima-ng.not_in_allowlist'],
  );
}

test('[MUST] hole 12: a database that another process locks for a while makes no verdict and stops nothing', async (t) => {
  const verifier = await started(t);
  const { bad } = await twoAgents(verifier);
  const database = databaseOf(verifier);
  database.exec('begin immediate');
  bad.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await sleep(1000);
  const held = database.prepare('select operational_state as state from agents').all();
  assert.deepEqual(
    held.map(({ state }) => state),
    [GET_QUOTE, GET_QUOTE],
    'a verdict that is not stored is none',
  );
  database.exec('rollback');
  database.close();
  await assertRecovered(verifier);
});

test('[MUST] hole 12: a database that fails for a while makes no verdict and stops nothing', async (t) => {
  const verifier = await started(t);
  const { bad } = await twoAgents(verifier);
  const database = databaseOf(verifier);
  database.exec('alter table agents rename to agents_away');
  bad.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  for (let n = 0; n < 300 && !verifier.log().includes('a fault of this service'); n++) await sleep(10);
  assert.match(verifier.log(), /could not be done: a fault of this service, it is tried again/);
  const answer = await verifier.ask({ path: '/v2.6/agents/good' });
  assert.equal(answer.code, 500);
  assert.doesNotMatch(answer.text, /agents_away|no such table/);
  database.exec('alter table agents_away rename to agents');
  database.close();
  await assertRecovered(verifier);
});

test('[MUST] hole 12: a PostgreSQL that is restarted makes no verdict and stops nothing', async (t) => {
  const { postgres, verifier } = await startedOnPostgres(t, { process: true });
  const { good, bad } = await twoAgents(verifier);
  await postgres.halt();
  bad.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  const asked = good.asked.length;
  await sleep(1500);
  await postgres.resume();
  for (let n = 0; n < 1500 && good.asked.length <= asked + 3; n++) await sleep(10);
  assert.ok(good.asked.length > asked + 3, verifier.log());
  await assertRecovered(verifier);
});

test('[MUST] characters that PostgreSQL does not take keep no verdict from being stored', async (t) => {
  const { verifier } = await startedOnPostgres(t);
  const lies = {
    hash: { hash_alg: 'sha256\u0000' },
    key: { pubkey: 'key\u0000\ud800' },
    list: { ima_measurement_list: '10 \u0000\ud800 \u0000' },
    quote: { quote: 'r\u0000' },
  };
  for (const [id, lie] of Object.entries(lies)) {
    const agent = await verifier.agent(id);
    await verifier.enrol(agent, { metadata: '"\\u0000\\ud800"', verifier_ip: '\u0000' });
    await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
    agent.lie({ results: (truth) => ({ ...truth, ...lie }) });
    const status = await verifier.until(id, ({ operational_state }) => operational_state > GET_QUOTE);
    assert.equal(status.operational_state, INVALID_QUOTE);
  }
  // Bound through PCR 16, so it is kept: root may choose any text for its key.
  const agent = await verifier.agent('bound');
  const pubkey = '\u0000 \ud800';
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, bindingPublicKeyPem: pubkey }),
    results: (truth) => ({ ...truth, pubkey }),
  });
  await verifier.enrol(agent);
  await verifier.until('bound', ({ attestation_count: n, operational_state: s }) => n > 1 || s > GET_QUOTE);
  const names = await verifier.ask({ method: 'POST', path: '/v2.6/allowlists/a%00b', json: {} });
  assert.equal(names.code, 400);
  assert.doesNotMatch(verifier.log(), /a fault of this service/);
});

test('[MUST] a verifier that is killed at any moment attests all its agents again, and no verdict is lost', async (t) => {
  const verifier = await started(t, { process: true, settings: { quote_interval: '0.1' } });
  const ids = Array.from({ length: 12 }, (_, n) => `agent-${n}`);
  const agents = await Promise.all(ids.map((id) => verifier.agent(id)));
  for (const agent of agents) await verifier.enrol(agent);
  for (const id of ids) await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  const [caught, stopped, deleted, ...others] = agents;
  assert.ok(caught && stopped && deleted);
  caught.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await verifier.until(caught.id, ({ operational_state }) => operational_state > GET_QUOTE);
  await verifier.ask({ method: 'PUT', path: `/v2.6/agents/${stopped.id}/stop` });
  await verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${deleted.id}` });
  for (let time = 0; time < 2; time++) {
    const counts = await Promise.all(others.map(async ({ id }) => (await verifier.status(id)).attestation_count));
    await verifier.kill();
    const asked = others.map((agent) => agent.asked.length);
    await verifier.start();
    const first = new Map<string, number>();
    const deadline = performance.now() + 20_000;
    while (first.size < others.length && performance.now() < deadline) {
      for (const [n, agent] of others.entries()) {
        if (agent.asked.length > (asked[n] ?? 0) && !first.has(agent.id)) first.set(agent.id, performance.now());
      }
      await sleep(2);
    }
    assert.equal(first.size, others.length, 'all were asked again');
    const times = [...first.values()].sort((a, b) => a - b);
    const spread = (times.at(-1) ?? 0) - (times[0] ?? 0);
    assert.ok(spread > 400, `all were asked within ${spread} ms`);
    for (const [n, { id, asked: queries }] of others.entries()) {
      const status = await verifier.until(id, ({ attestation_count }) => attestation_count > (counts[n] ?? 0));
      assert.deepEqual([status.operational_state, status.last_event_id], [GET_QUOTE, null]);
      assert.equal(queries[asked[n] ?? 0]?.entry, 1, 'it goes on where it was');
    }
    const verdict = await verifier.status(caught.id);
    assert.deepEqual([verdict.operational_state, verdict.severity_level], [INVALID_QUOTE, 6]);
    assert.equal((await verifier.status(stopped.id)).operational_state, STOPPED);
    assert.equal((await verifier.ask({ path: `/v2.6/agents/${deleted.id}` })).code, 404);
  }
  // What was measured while nobody looked is found by the next one.
  await verifier.kill();
  others[0]?.machine.measure('/usr/bin/implant', Buffer.from('implant'));
  await verifier.start();
  await verifier.until(others[0]?.id ?? '', ({ operational_state }) => operational_state === INVALID_QUOTE);
});
