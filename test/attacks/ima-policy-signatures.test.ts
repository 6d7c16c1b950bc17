import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { type TestContext, test } from 'node:test';
import { ecdsaKeyId, signEnvelope } from '@keylime/policies/dsse';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { startPushMachine } from './push-harness.ts';
import {
  type AttackedVerifier,
  base64,
  enrolment,
  FAILED,
  runtimePolicy,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Policies were stored while nobody asked for signatures. From the day that signatures are required on none of them counts
 * that is not signed: neither for who is enrolled under its name, nor for who was.
 */
const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [signer, stranger] = [pair(), pair()];
const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'spki' }).toString();
const signed = ({ privateKey, publicKey }: typeof signer, text = runtimePolicy()) =>
  signEnvelope(Buffer.from(text), privateKey, ecdsaKeyId(publicKey));

async function store({ ask }: AttackedVerifier, name: string, text: string, keyPem = '', method = 'POST') {
  const json = { runtime_policy: base64(text), runtime_policy_key: base64(keyPem), tpm_policy: '{}' };
  const answer = await ask({ method, path: `/v2.6/allowlists/${name}`, json });
  assert.equal(answer.code, 201, answer.text);
}

const byName = (name: string) => ({ runtime_policy: '', runtime_policy_name: name });

async function passing(verifier: AttackedVerifier, name: string): Promise<LyingAgent> {
  const agent = await verifier.agent(`with-${name}`);
  await verifier.enrol(agent, byName(name));
  await verifier.until(agent.id, ({ attestation_count }) => attestation_count > 0);
  return agent;
}

/** A verifier that asks for no signatures yet, and an agent that passes by each of the policies. */
async function openScene(t: TestContext) {
  const verifier = await startAttackedVerifier({ process: true });
  t.after(() => verifier.stop());
  await store(verifier, 'unsigned', runtimePolicy());
  await store(verifier, 'unchecked', signed(signer));
  await store(verifier, 'checked', signed(signer), pem(signer.publicKey));
  return {
    verifier,
    agents: {
      unsigned: await passing(verifier, 'unsigned'),
      unchecked: await passing(verifier, 'unchecked'),
      checked: await passing(verifier, 'checked'),
    },
    requireSignatures: (...keys: readonly KeyObject[]) => requireSignatures(verifier, keys),
  };
}

/** Stops the verifier, which is to ask for signatures by these keys when it is started again. */
async function requireSignatures(verifier: AttackedVerifier, keys: readonly KeyObject[]): Promise<void> {
  const files = keys.map((_, n) => path.join(verifier.folder, `policy-key-${n}.pem`));
  for (const [n, key] of keys.entries()) await writeFile(files[n] ?? '', pem(key));
  const file = path.join(verifier.folder, 'verifier.conf');
  const settings = `require_allow_list_signatures = True\nruntime_policy_signature_keys = ${JSON.stringify(files)}\n`;
  await verifier.kill();
  await writeFile(file, (await readFile(file, 'utf8')).replace('[verifier]\n', `[verifier]\n${settings}`));
}

/** Not asked once more since the verifier was started, in which state and with which message. */
async function isRefused(verifier: AttackedVerifier, agent: LyingAgent, message: RegExp): Promise<void> {
  const asked = agent.asked.length;
  const status = await verifier.until(agent.id, ({ operational_state }) => operational_state >= FAILED);
  assert.equal(status.last_event_id, 'internal.verifier.policy_not_signed');
  assert.match(status.last_failures[0]?.context.message ?? '', message);
  assert.equal(status.attestation_status, 'FAIL');
  assert.equal(agent.asked.length, asked);
}

const goesOn = async ({ until, status }: AttackedVerifier, agent: LyingAgent) => {
  const { attestation_count: before } = await status(agent.id);
  const now = await until(agent.id, (one) => one.attestation_count > before + 1 || one.operational_state >= FAILED);
  assert.equal(now.attestation_status, 'PASS', JSON.stringify(now.last_failures));
};

test('[MUST] policies that are not signed by a pinned key judge no more when signatures are required', async (t) => {
  const { verifier, agents, requireSignatures } = await openScene(t);
  await requireSignatures(signer.publicKey);
  await verifier.start();
  await isRefused(verifier, agents.unsigned, /'unsigned' cannot be used: .* it has none/);
  await goesOn(verifier, agents.checked);
  await goesOn(verifier, agents.unchecked);

  const late = await verifier.agent('late');
  const enrol = (name: string) =>
    verifier.ask({ method: 'POST', path: `/v2.6/agents/${late.id}`, json: enrolment(late, byName(name)) });
  const refused = await enrol('unsigned');
  assert.equal(refused.code, 401, refused.text);
  assert.match(refused.status, /'unsigned' cannot be used: signatures are required/);
  assert.equal((await verifier.ask({ path: `/v2.6/agents/${late.id}` })).code, 404, 'nothing was enrolled');
  assert.equal((await enrol('checked')).code, 200);

  await store(verifier, 'unsigned', signed(signer), '', 'PUT');
  const again = await verifier.ask({ method: 'PUT', path: `/v2.6/agents/${agents.unsigned.id}/reactivate` });
  assert.equal(again.code, 200, again.text);
  await goesOn(verifier, agents.unsigned);
});

test('[MUST] a policy that was signed by another key than the pinned one judges no more', async (t) => {
  const { verifier, agents, requireSignatures } = await openScene(t);
  await requireSignatures(stranger.publicKey);
  await verifier.start();
  for (const agent of [agents.unchecked, agents.checked]) {
    await isRefused(verifier, agent, /by none of the keys of runtime_policy_signature_keys/);
  }
});

test('[MUST] where no key is pinned, a policy counts by the key that it was checked with when it was stored', async (t) => {
  const { verifier, agents, requireSignatures } = await openScene(t);
  await requireSignatures();
  await verifier.start();
  await goesOn(verifier, agents.checked);
  await isRefused(verifier, agents.unsigned, /it has none/);
  await isRefused(verifier, agents.unchecked, /was not checked when it was stored/);

  await verifier.kill();
  const database = new DatabaseSync(`${verifier.folder}/verifier.sqlite`);
  database.prepare('update runtime_policies set text = ? where name = ?').run(signed(stranger), 'checked');
  database.close();
  await verifier.start();
  await isRefused(verifier, agents.checked, /not by the key that it was stored with/);
});

test('[MUST] evidence of an agent that pushes is taken, and failed for the policy that is not signed', async (t) => {
  const verifier = await startAttackedVerifier({ settings: { mode: 'push', quote_interval: '0' }, process: true });
  t.after(() => verifier.stop());
  await store(verifier, 'unsigned', runtimePolicy());
  const machine = await startPushMachine(verifier, 'pushing');
  t.after(machine.stop);
  await machine.enrol(byName('unsigned'));
  assert.equal((await machine.attest()).evaluation, 'pass');
  await requireSignatures(verifier, [signer.publicKey]);
  await verifier.start();

  for (let n = 0; n < 2; n++) {
    const { evaluation, failure_reason: reason, results = [] } = await machine.attest();
    assert.deepEqual([evaluation, reason], ['fail', 'not_judged']);
    assert.equal(results[0]?.event_id, 'internal.verifier.policy_not_signed');
    assert.match(results[0]?.context.message ?? '', /'unsigned' cannot be used: .* it has none/);
  }
  const status = await verifier.status('pushing');
  assert.deepEqual([status.attestation_status, status.last_event_id], ['FAIL', 'internal.verifier.policy_not_signed']);
  assert.doesNotMatch(verifier.log(), /fault of this service|"level":50/);

  await store(verifier, 'unsigned', signed(signer), '', 'PUT');
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/pushing/reactivate' })).code, 200);
  assert.equal((await machine.attest()).evaluation, 'pass');
  assert.equal((await verifier.status('pushing')).attestation_status, 'PASS');
});
