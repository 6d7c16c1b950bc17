import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { recordImaNg } from '@keylime/ima/record';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import {
  type AttackedVerifier,
  assertFails,
  enrolment,
  FAILED,
  GET_QUOTE,
  longestHoldDuring,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';

/*
 * The many and the large: neither agents that do not answer nor one that answers with a hundred megabytes keep the
 * verifier from asking the others in time.
 */
async function started(t: TestContext, options: VerifierOptions): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier({ ...options, process: true });
  t.after(() => verifier.stop());
  return verifier;
}

/** Far above the intervals here, far below a time-out. */
const MOST_GAP_MS = 8000;

/** A port that takes connections and says nothing. */
async function blackHole(t: TestContext): Promise<number> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on('error', () => {}))).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return (server.address() as AddressInfo).port;
}

/** The longest time between two requests to the agent while `work` goes on, in milliseconds. */
async function longestGapDuring(agent: LyingAgent, work: () => Promise<unknown>): Promise<number> {
  let [count, since, longest] = [agent.asked.length, performance.now(), 0];
  const timer = setInterval(() => {
    if (agent.asked.length !== count) longest = Math.max(longest, performance.now() - since);
    else return;
    [count, since] = [agent.asked.length, performance.now()];
  }, 2);
  await work();
  clearInterval(timer);
  return Math.max(longest, performance.now() - since);
}

const healthy = async (verifier: AttackedVerifier, id: string) => {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent);
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return agent;
};

test('[MUST] 1,000 agents that do not answer delay no healthy one, and none is failed for want of time', async (t) => {
  const verifier = await started(t, {
    settings: { request_timeout: '15', max_retries: '1000', retry_interval: '0.5', quote_interval: '0.2' },
  });
  const agent = await healthy(verifier, 'healthy');
  const port = await blackHole(t);
  const json = enrolment(agent, { cloudagent_port: port, runtime_policy: '', runtime_policy_name: 'healthy' });
  const gap = await longestGapDuring(agent, async () => {
    for (let n = 0; n < 1000; n += 50) {
      const answers = await Promise.all(
        Array.from({ length: 50 }, (_, i) =>
          verifier.ask({ method: 'POST', path: `/v2.6/agents/dark-${n + i}`, json }),
        ),
      );
      assert.ok(answers.every(({ code }) => code === 200));
    }
  });
  assert.ok(gap < MOST_GAP_MS, `not asked for ${gap} ms`);
  const status = await verifier.status('healthy');
  assert.deepEqual([status.operational_state, status.last_event_id], [GET_QUOTE, null]);

  // After a restart nobody knows yet who will answer, and all are asked at once.
  await verifier.kill();
  const asked = agent.asked.length;
  await verifier.start();
  const first = performance.now();
  for (let n = 0; n < 4000 && agent.asked.length === asked; n++) await sleep(5);
  const waited = performance.now() - first;
  assert.ok(waited < 1000 + MOST_GAP_MS, `after a restart not asked for ${waited} ms`);
  const after = await longestGapDuring(agent, () => sleep(1000));
  assert.ok(after < MOST_GAP_MS, `after a restart not asked for ${after} ms`);
  assert.ok(agent.asked.length > asked + 2);
});

test('[MUST] a list of a hundred megabytes is judged, and other agents are asked on time meanwhile', async (t) => {
  const verifier = await startAttackedVerifier({ settings: { request_timeout: '60' } });
  t.after(() => verifier.stop());
  await healthy(verifier, 'small');
  const large = await verifier.agent('large');
  const { line } = recordImaNg('/usr/bin/allowed', 'sha256', Buffer.alloc(32));
  // With what stands around it just below the limit of 100 MiB; JSON writes a line feed in two characters.
  const list = Buffer.from(
    JSON.stringify(line)
      .slice(1, -1)
      .repeat(Math.floor(103_000_000 / (line.length + 1))),
  );
  large.lie({
    respond: (_, response, truth) => {
      // Lines of the truth, then those that are too many, then the rest of the answer.
      const text = truth().toString();
      const end = text.indexOf('","ima_measurement_list_entry"');
      response.writeHead(200).write(text.slice(0, end));
      response.write(list);
      response.end(text.slice(end));
    },
  });
  const hold = await longestHoldDuring(async () => {
    await verifier.enrol(large);
    await verifier.until(
      'large',
      ({ attestation_count, operational_state }) => attestation_count > 0 || operational_state > 1,
    );
  });
  assert.ok(list.length > 100_000_000);
  assert.equal(
    (await verifier.status('large')).attestation_count,
    1,
    'what the quote does not cover counts neither way',
  );
  const status = await verifier.status('small');
  assert.deepEqual([status.operational_state, status.last_event_id], [GET_QUOTE, null]);
  assert.ok(hold < 320, `held up for ${hold} ms`);
});

test('a list above the limit is not read to its end', async (t) => {
  const verifier = await started(t, { settings: { max_upload_size: '1000000' } });
  const agent = await verifier.agent('too-large');
  agent.lie({ results: (truth) => ({ ...truth, ima_measurement_list: 'x'.repeat(2_000_000) }) });
  await verifier.enrol(agent);
  await assertFails(verifier, agent, {
    event: 'internal.verifier.not_reachable',
    message: /larger than the 1000000 bytes allowed/,
    state: FAILED,
  });
});
