import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { openRecorder } from '@keylime/software-tpm/recorder';
import { AGENT_ID, openAttackedAgent } from './agent-harness.ts';
import { ALLOWED_FILES, base64, FAILED, runtimePolicy, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Newer kernels have a list for each bank, with template hashes of its algorithm: no SHA-1 is left in what is judged. Agent
 * and verifier are processes, on a software TPM; the kernel's file is simulated.
 */
const ima = (log_hash_alg: string) => ({ ignored_keyrings: [], log_hash_alg, dm_policy: null });

test('the list of the SHA-256 bank is judged by its own hashes, and [MUST] by no others', async (t) => {
  const agent = await openAttackedAgent(t);
  const list = path.join(agent.home, 'ascii_runtime_measurements_sha256');
  writeFileSync(list, '');
  const recorder = await openRecorder(agent.tcti, list, ['sha256'], 'sha256');
  t.after(() => recorder.close());
  const measure = async (name: string) => {
    const file = path.join(agent.home, 'program');
    writeFileSync(file, name);
    await recorder.measure(name, file);
  };
  for (const name of ALLOWED_FILES) await measure(name);
  await agent.start({ ima_ml_path: list });
  const verifier = await startAttackedVerifier({ process: true, ca: agent.ca });
  t.after(() => verifier.stop());
  const enrolled = { id: AGENT_ID, port: agent.port, registered: agent.registered() };

  await verifier.enrol(enrolled, { runtime_policy: base64(runtimePolicy({ ima: ima('sha256') })) });
  const { last_failures } = await verifier.until(AGENT_ID, ({ attestation_count }) => attestation_count > 1);
  assert.deepEqual(last_failures, []);
  await measure('/usr/bin/implant');
  const failed = await verifier.until(AGENT_ID, ({ operational_state }) => operational_state >= FAILED);
  assert.match(failed.last_failures[0]?.context.message ?? '', /File not found in allowlist: \/usr\/bin\/implant/);

  await verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${AGENT_ID}` });
  await verifier.enrol(enrolled, { runtime_policy: base64(runtimePolicy({ ima: ima('sha1') })) });
  const refused = await verifier.until(AGENT_ID, ({ operational_state }) => operational_state >= FAILED);
  assert.deepEqual([refused.attestation_count, refused.last_event_id], [0, 'ima.validation.ima_hash']);
});
