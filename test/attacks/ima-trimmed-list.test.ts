import assert from 'node:assert/strict';
import { appendFileSync, existsSync, readFileSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { openRecorder } from '@keylime/software-tpm/recorder';
import { SIMULATED_BOOT_AGGREGATE } from '@keylime/testing/simulated-agent';
import { AGENT_ID, openAttackedAgent } from './agent-harness.ts';
import { type AgentStatus, base64, FAILED, runtimePolicy, startAttackedVerifier } from './verifier-harness.ts';

/*
 * A kernel from whose list records can be removed (Linux 7.2): the list that the agent reads begins somewhere, and what is
 * gone must neither pass by being gone, nor make the verifier ask for ever. Agent and verifier are processes, on a software
 * TPM; the kernel's tree is simulated.
 */
const PROGRAMS = Array.from({ length: 8 }, (_, i) => `/usr/bin/program-${i}`);
const POLICY = base64(
  runtimePolicy({
    digests: {
      boot_aggregate: [SIMULATED_BOOT_AGGREGATE],
      ...Object.fromEntries(PROGRAMS.map((file) => [file, [digest('sha256', Buffer.from(file)).toString('hex')]])),
    },
  }),
);

/** The agent is away for a while when it is restarted. */
const PATIENT = { max_retries: '1000' };

async function openScene(t: TestContext) {
  const agent = await openAttackedAgent(t);
  const list = path.join(agent.home, 'ascii_runtime_measurements');
  const staged = `${list}_staged`;
  for (const file of [list, staged]) writeFileSync(file, '');
  const recorder = await openRecorder(agent.tcti, list);
  t.after(() => recorder.close());
  const start = () => agent.start({ ima_ml_path: list });
  await start();
  const verifier = await startAttackedVerifier({ process: true, ca: agent.ca, settings: PATIENT });
  t.after(() => verifier.stop());
  const passesAgain = async () => {
    const { attestation_count: before } = await verifier.status(AGENT_ID);
    return verifier.until(AGENT_ID, ({ attestation_count: now }) => now > before + 1);
  };
  return {
    agent,
    verifier,
    start,
    passesAgain,
    async measure(name: string, content = name) {
      const file = path.join(agent.home, 'program');
      writeFileSync(file, content);
      await recorder.measure(name, file);
    },
    stage() {
      appendFileSync(staged, readFileSync(list));
      truncateSync(list);
    },
    remove: () => truncateSync(staged),
    enrol: () =>
      verifier.enrol(
        { id: AGENT_ID, port: agent.port, registered: agent.registered() },
        { runtime_policy: POLICY, tpm_policy: '{"mask": "0x400"}' },
      ),
    stopped: () => verifier.until(AGENT_ID, ({ operational_state }) => operational_state >= FAILED),
    /** Forgets what the agent kept. */
    forget: () => unlinkSync(path.join(agent.home, 'measurement_list.json')),
  };
}

const said = ({ last_failures: [failure] }: AgentStatus) => failure?.context.message ?? '';

test('a verifier that keeps up attests a machine whose records go, over restarts of agent and verifier', async (t) => {
  const { agent, verifier, measure, stage, remove, enrol, passesAgain, start } = await openScene(t);
  await measure(PROGRAMS[0] ?? '');
  await enrol();
  await verifier.until(AGENT_ID, ({ attestation_count }) => attestation_count > 0);

  stage();
  await measure(PROGRAMS[1] ?? '');
  await passesAgain();
  remove();
  await measure(PROGRAMS[2] ?? '');
  await passesAgain();

  await agent.stop();
  await start();
  await measure(PROGRAMS[3] ?? '');
  await passesAgain();
  stage();
  remove();
  await agent.kill();
  await start();
  await measure(PROGRAMS[4] ?? '');
  await passesAgain();

  await verifier.kill();
  await measure(PROGRAMS[5] ?? '');
  await verifier.start();
  const { last_failures } = await passesAgain();
  assert.deepEqual(last_failures, []);

  await measure('/usr/bin/implant');
  const failed = await verifier.until(AGENT_ID, ({ operational_state }) => operational_state >= FAILED);
  assert.match(said(failed), /File not found in allowlist: \/usr\/bin\/implant/);
});

test('another policy wants the list from its first entry: where that is gone, the reason and the way out are said', async (t) => {
  const { verifier, measure, stage, remove, enrol, stopped, passesAgain } = await openScene(t);
  await measure(PROGRAMS[0] ?? '');
  await enrol();
  await passesAgain();
  stage();
  remove();
  await measure(PROGRAMS[1] ?? '');
  await passesAgain();
  const changed = await verifier.ask({
    method: 'PUT',
    path: `/v2.6/allowlists/${AGENT_ID}`,
    json: { runtime_policy: base64(`${Buffer.from(POLICY, 'base64')} `), runtime_policy_key: '', tpm_policy: '{}' },
  });
  assert.equal(changed.code, 201, changed.text);
  const status = await stopped();
  assert.equal(status.last_event_id, 'qoute_validation.invalid_ima_entry_nb');
  assert.match(said(status), /starts at entry \d+, entry 0 was asked for.* reboot the machine/);
});

test('[MUST] a list whose beginning is gone does not pass with a verifier that has not seen it, and the reason is said', async (t) => {
  const { agent, verifier, measure, stage, remove, enrol, stopped } = await openScene(t);
  await measure('/usr/bin/implant');
  // The agent, or whoever trims, has read them; the verifier has not.
  await agent.get('/v2.6/quotes/integrity?nonce=1234567890ABCDEFHIJ&mask=0x400&partial=1&ima_ml_entry=0');
  stage();
  remove();
  await measure(PROGRAMS[0] ?? '');
  await enrol();
  const status = await stopped();
  assert.equal(status.attestation_count, 0);
  assert.equal(status.last_event_id, 'qoute_validation.invalid_ima_entry_nb');
  assert.match(said(status), /starts at entry 2, entry 0 was asked for.* reboot the machine/);
  assert.ok(verifier.log().includes('stopping polling'));
});

test('[MUST] records that nobody counted are not passed over: the agent says that it cannot number what is left', async (t) => {
  const { agent, measure, stage, remove, enrol, stopped, start, forget } = await openScene(t);
  await measure('/usr/bin/implant');
  await agent.get('/v2.6/quotes/integrity?nonce=1234567890ABCDEFHIJ&mask=0x400&partial=1&ima_ml_entry=0');
  stage();
  remove();
  await measure(PROGRAMS[0] ?? '');
  await agent.stop();
  forget();
  await start();
  await enrol();
  const status = await stopped();
  assert.equal(status.attestation_count, 0);
  assert.equal(status.last_event_id, 'internal.verifier.no_quote');
  assert.match(said(status), /answered 409 .*cannot be numbered: reboot the machine/);
});

test('[MUST] a record that went before anybody read it is missing in the replay', async (t) => {
  const { agent, verifier, measure, stage, remove, enrol, stopped, passesAgain, start } = await openScene(t);
  await enrol();
  await passesAgain();
  await agent.stop();
  await measure('/usr/bin/implant');
  stage();
  remove();
  await measure(PROGRAMS[0] ?? '');
  await start();
  await verifier.ask({ method: 'PUT', path: `/v2.6/agents/${AGENT_ID}/reactivate` });
  const status = await stopped();
  assert.ok(existsSync(path.join(agent.home, 'measurement_list.json')));
  assert.match(status.last_event_id ?? '', /ima\.pcr_mismatch|invalid_ima_entry_nb/);
});
