import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type CollectedEvidence, collectedAttributes } from '@keylime/api/push-evidence';
import { bootOf, GOOD_LOG, logOf, strictReference } from './boot-harness.ts';
import { type PushMachine, refusalOf, requestedBy, startPushMachine } from './push-harness.ts';
import { type Answer, type AttackedVerifier, startAttackedVerifier } from './verifier-harness.ts';

/* The boot of an agent that pushes is judged like that of one that is polled. */
const SESSION_SECONDS = 3;
let verifier: AttackedVerifier;
let machine: PushMachine;

before(async () => {
  verifier = await startAttackedVerifier({
    settings: {
      ...{ mode: 'push', quote_interval: '0', measured_boot_policy_name: 'strict' },
      session_lifetime: String(SESSION_SECONDS),
    },
  });
  machine = await startPushMachine(verifier, 'booted', { bootLog: GOOD_LOG });
  await machine.enrol({ runtime_policy: '', tpm_policy: '{"mask": "0x0"}', mb_policy: strictReference() });
});
after(async () => {
  await machine?.stop();
  await verifier.stop();
});

const send = (evidence: readonly CollectedEvidence[]): Promise<Answer> =>
  machine.send('PATCH', 'latest', collectedAttributes(evidence));

/** Resolves when the machine's token is not good any more. */
async function tokenExpires(): Promise<void> {
  const deadline = performance.now() + 20_000;
  const isGood = async () => (await machine.send('GET', '/v2.6/agents/booted')).code === 200;
  while (await isGood()) {
    assert.ok(performance.now() < deadline, 'the token is good for ever');
    await sleep(50);
  }
}

test('a boot in good order passes, with the log of its firmware, and another log is found', async () => {
  await machine.login();
  const asked = await machine.offer();
  assert.equal(asked.code, 201, asked.text);
  assert.deepEqual(
    requestedBy(asked).map(({ evidence_type }) => evidence_type),
    ['tpm_quote', 'uefi_log'],
  );
  assert.equal((await send(await machine.evidence(asked))).code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');

  await machine.login();
  const [quote] = await machine.evidence(await machine.offer());
  assert.ok(quote);
  const entries = logOf(bootOf({ kernelCommandLine: 'init=/bin/sh' })).toString('base64');
  assert.equal(
    (await send([quote, { evidence_class: 'log', evidence_type: 'uefi_log', data: { entries } }])).code,
    202,
  );
  const { evaluation, failure_reason: reason, results = [] } = await machine.verdict();
  assert.deepEqual([evaluation, reason], ['fail', 'broken_evidence_chain']);
  assert.match(results[0]?.event_id ?? '', /^measured_boot\.invalid_pcr_/);
  assert.equal((await verifier.ask({ method: 'PUT', path: '/v2.6/agents/booted/reactivate' })).code, 200);
});

test('[MUST] the log of a boot is not taken with a token that expired, and after a login it is, for the same challenge', async () => {
  await machine.login();
  const asked = await machine.offer();
  assert.equal(asked.code, 201, asked.text);
  const evidence = await machine.evidence(asked);
  await tokenExpires();
  const { attestation_count: before } = await verifier.status('booted');
  assert.equal(refusalOf(await send(evidence))[0], 401);
  assert.equal(refusalOf(await machine.offer())[0], 401);
  assert.equal((await verifier.status('booted')).attestation_count, before, 'nothing was judged');

  await machine.login();
  assert.equal((await send(evidence)).code, 202);
  assert.equal((await machine.verdict()).evaluation, 'pass');
  assert.equal((await verifier.status('booted')).attestation_count, before + 1);
});
