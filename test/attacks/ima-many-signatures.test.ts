import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { measure, recorded } from './ima-records.ts';
import { type Signer, signedFile, signedFiles, signer, trusting } from './signed-files.ts';
import {
  ALLOWED_FILES,
  type AttackedVerifier,
  FAILED,
  INVALID_QUOTE,
  longestHoldDuring,
  startAttackedVerifier,
  type VerifierOptions,
} from './verifier-harness.ts';

/*
 * A signature takes a hundred times as long to judge as a digest. A machine with thousands of them, honest or not, keeps no
 * other machine waiting, is judged to the end of its list, and is no pass before that.
 */
async function started(t: TestContext, options: VerifierOptions = {}): Promise<AttackedVerifier> {
  const verifier = await startAttackedVerifier(options);
  t.after(() => verifier.stop());
  return verifier;
}

async function enrolled(verifier: AttackedVerifier, id: string, by?: Signer): Promise<LyingAgent> {
  const agent = await verifier.agent(id);
  await verifier.enrol(agent, by && trusting(by));
  await verifier.until(id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

test('[MUST] a list of a thousand signatures does not hold up the verifier, and others are attested meanwhile', async (t) => {
  const by = signer('secp521r1');
  const records = signedFiles(by, 1000);
  assert.ok(
    records.reduce((bytes, { line }) => bytes + line.length, 0) < 500_000,
    'an answer as they are judged at once',
  );
  const verifier = await started(t);
  const other = await enrolled(verifier, 'other');
  const agent = await enrolled(verifier, 'signed', by);
  const { attestation_count: count } = await verifier.status(agent.id);
  const before = other.asked.length;
  const hold = await longestHoldDuring(async () => {
    measure(agent, ...records);
    await verifier.until(
      agent.id,
      (status) => status.attestation_count > count + 2 || status.operational_state >= FAILED,
    );
  });
  assert.equal((await verifier.status(agent.id)).attestation_status, 'PASS');
  assert.ok(
    agent.asked.some(({ entry }) => entry > 1000),
    'the list was judged to its end',
  );
  assert.ok(other.asked.length - before >= 5, `the other was asked ${other.asked.length - before} times`);
  t.diagnostic(`held for ${hold.toFixed(0)} ms`);
  assert.ok(hold < 200, `held for ${hold} ms`);
});

test('[MUST] a list that takes too long for one round is judged over several, and none but the last is a pass', async (t) => {
  const by = signer('prime256v1');
  const verifier = await started(t, { judging: { roundMs: 100, timeoutMs: 60_000 } });
  const agent = await enrolled(verifier, 'long', by);
  const { attestation_count: count } = await verifier.status(agent.id);
  const [asked, rounds] = [agent.asked.length, verifier.outcomes(agent.id).length];
  measure(agent, ...signedFiles(by, 3000));
  await verifier.until(
    agent.id,
    (status) => status.attestation_count > count + 1 || status.operational_state >= FAILED,
  );
  const outcomes = verifier.outcomes(agent.id).slice(rounds);
  const [first, last] = [outcomes.indexOf('unfinished'), outcomes.lastIndexOf('unfinished')];
  assert.ok(first !== -1 && last - first >= 2, `rounds: ${outcomes}`);
  assert.ok(outcomes.slice(first, last).every((outcome) => outcome === 'unfinished'));
  assert.equal(outcomes[last + 1], 'affirming');
  const entries = new Set(agent.asked.slice(asked).map(({ entry }) => entry));
  assert.deepEqual(
    [...entries],
    [...entries].sort((a, b) => a - b),
    'each round goes on where the last one ended',
  );
  assert.ok(entries.has(3001));
});

test('[MUST] a forged signature behind thousands of good ones fails', async (t) => {
  const by = signer('prime256v1');
  const verifier = await started(t, { judging: { roundMs: 100, timeoutMs: 60_000 } });
  const agent = await enrolled(verifier, 'forged', by);
  measure(agent, ...signedFiles(by, 3000), signedFile(by, '/opt/evil', 'something else'));
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.deepEqual(
    [status.operational_state, status.last_event_id],
    [INVALID_QUOTE, 'ima.validation.ima-ng.not_in_allowlist'],
  );
  assert.match(String(status.last_failures[0]?.context.message), /\/opt\/evil/);
  assert.ok(verifier.outcomes(agent.id).includes('unfinished'));
});

test('[MUST] a light failure at the start of a long list does not hide a grave one at its end', async (t) => {
  const by = signer('prime256v1');
  const settings = {
    tomtou: 'fail',
    severity_labels: "['info', 'emergency']",
    severity_policy: String.raw`[{"event_id": "ima\\.validation\\.tomtou", "severity_label": "info"}]`,
  };
  const verifier = await started(t, { settings, judging: { roundMs: 0, timeoutMs: 60_000 } });
  const agent = await enrolled(verifier, 'light', by);
  agent.lie({});
  agent.machine.append(`10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`, Buffer.alloc(32, 0xff));
  await verifier.until(agent.id, ({ last_event_id }) => last_event_id === 'ima.validation.tomtou');
  measure(agent, ...signedFiles(by, 3000), signedFile(by, '/opt/evil', 'something else'));
  const status = await verifier.until(agent.id, ({ last_event_id }) => last_event_id !== 'ima.validation.tomtou');
  assert.deepEqual(
    [status.operational_state, status.last_event_id],
    [INVALID_QUOTE, 'ima.validation.ima-ng.not_in_allowlist'],
  );
});

test('[MUST] an answer that no thread judges in time is a failure by that name, whatever its size, and no quote is called false', async (t) => {
  const by = signer('prime256v1');
  const verifier = await started(t, { judging: { roundMs: 60_000, timeoutMs: 20 } });
  const agent = await enrolled(verifier, 'slow', by);
  measure(agent, ...signedFiles(by, 3000));
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.deepEqual([status.operational_state, status.attestation_status], [FAILED, 'FAIL']);
  assert.equal(status.last_event_id, 'internal.verifier.not_judged');
  assert.match(
    String(status.last_failures[0]?.context.message),
    /^The answer of the agent could not be judged in 3 rounds: It took longer than 20 ms/,
  );
});

test('[MUST] more long lists at once than may wait fail no machine: each is attested when its turn comes', async (t) => {
  const verifier = await started(t);
  const by = signer('secp521r1');
  const blocker = await enrolled(verifier, 'blocker', by);
  const [file = ''] = ALLOWED_FILES;
  const record = recorded(`ima-ng sha256:${digest('sha256', Buffer.from(file)).toString('hex')} ${file}`);
  const agents = await Promise.all(Array.from({ length: 40 }, (_, i) => verifier.agent(`crowd-${i}`)));
  for (const agent of agents) measure(agent, ...Array.from({ length: 5000 }, () => record));
  const handedOver = verifier.handedOver();
  measure(blocker, ...signedFiles(by, 3000));
  await handedOver;
  await Promise.all(agents.map((agent) => verifier.enrol(agent)));
  for (const { id } of agents) {
    const status = await verifier.until(id, (one) => one.attestation_count > 0 || one.operational_state >= FAILED);
    assert.deepEqual(
      [status.attestation_status, status.inconclusive_rounds, status.unreachable_rounds],
      ['PASS', 0, 0],
    );
  }
  assert.ok(
    agents.some(({ id }) => verifier.outcomes(id).includes('postponed')),
    'the queue was full',
  );
  assert.ok(agents.every(({ id }) => verifier.outcomes(id).every((one) => one === 'affirming' || one === 'postponed')));
});
