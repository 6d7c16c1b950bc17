import assert from 'node:assert/strict';
import { chmodSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { derOf, issue } from '@keylime/tenant/testing/certificates';
import { AGENT, machine, openScene, type Scene, type Twist } from '@keylime/tenant/testing/scene';
import { akPublicOf, ekPublicOf, rsaKey, softwareTpm } from '@keylime/tenant/testing/software-tpm';

/*
 * What `add` is for: an agent that cannot show a genuine TPM, or whose quote is not by the registered AK over this nonce,
 * does not come under a verifier that would vouch for it. Holes 1 and 2 as far as the tenant can close them (an existing
 * registrar closes neither), and hole 10: the EK counts in push mode, too.
 */
const other = softwareTpm();
const base64 = (bytes: Buffer): string => bytes.toString('base64');
const ZERO = Buffer.alloc(32);

async function refused(
  t: TestContext,
  twist: Twist,
  reason: RegExp,
  settings?: Readonly<Record<string, string>>,
): Promise<Scene> {
  const scene = await openScene(t, twist);
  for (const command of ['add', 'update']) {
    const outcome = await scene.tenant(['-c', command, '-u', AGENT], settings);
    assert.equal(outcome.code, 1, outcome.stdout);
    assert.match(outcome.messages.at(-1) ?? '', reason);
  }
  assert.deepEqual(scene.verifier.seen, [], 'no request reached the verifier');
  return scene;
}

test('the scene passes when nobody attacks', async (t) => {
  const scene = await openScene(t);
  const outcome = await scene.tenant(['-c', 'add', '-u', AGENT]);
  assert.equal(outcome.code, 0, outcome.stdout);
});

test('[MUST Q6] a quote by another key than the AK of the registrar is refused', async (t) => {
  await refused(t, { record: { aik_tpm: base64(other.akPublic) } }, /is invalid for nonce: .*quote_signature_invalid/);
  await refused(t, { quote: { signer: other.ak } }, /quote_signature_invalid/);
});

test('[MUST Q8] a quote over another nonce is refused', async (t) => {
  await refused(t, { quote: { nonce: 'A'.repeat(20) } }, /is invalid for nonce: .*quote_nonce_mismatch/);
});

test('[MUST 02 G2] a quote of other PCRs is refused, whatever the unsigned part says', async (t) => {
  const pcrs = new Map([[23, ZERO]]);
  await refused(t, { quote: { pcrs } }, /quote_pcr_selection/);
  await refused(t, { quote: { pcrs, relabel: [10, 16] } }, /quote_pcr_selection/);
  await refused(t, { quote: { relabel: [10] } }, /quote_pcr_blob/);
});

test('[MUST Q11] a transport key that PCR 16 does not bind is refused', async (t) => {
  const key = issue({ commonName: 'x', key: rsaKey() });
  const pem = (await import('node:crypto')).createPublicKey(key.certificate).export({ format: 'pem', type: 'spki' });
  await refused(t, { evidence: { pubkey: pem.toString() } }, /PCR 16 does not bind the key/);
  await refused(t, { quote: { transportKey: 'another' } }, /PCR 16 does not bind the key/);
});

test('[MUST 02 G1] a registered AK that is no restricted key of a TPM is refused, although its quote verifies', async (t) => {
  const { tpm } = machine();
  const loose = Buffer.from(akPublicOf(tpm.ak));
  loose.writeUInt32BE(0x00040040, 6); // sign and userWithAuth: a software key that was loaded
  await refused(t, { record: { aik_tpm: base64(loose) } }, /may be a key outside of the TPM/);
});

test('[MUST 02 G5] an algorithm that is not accepted, or another one than was used, is refused', async (t) => {
  await refused(t, {}, /unaccepted hash algorithm: sha256/, { accept_tpm_hash_algs: "['sha512']" });
  await refused(t, {}, /unaccepted encryption algorithm: rsa2048/, { accept_tpm_encryption_algs: "['ecc']" });
  await refused(t, {}, /unaccepted signing algorithm: rsassa/, { accept_tpm_signing_algs: "['ecdsa']" });
  const accepted = { accept_tpm_encryption_algs: "['rsa3072']", accept_tpm_signing_algs: "['ecdsa']" };
  const evidence = { enc_alg: 'rsa3072', sign_alg: 'ecdsa' };
  await refused(t, { evidence }, /declares algorithms that it does not use: encAlg, signAlg/, accepted);
  await refused(t, { evidence: { hash_alg: 'sha512' } }, /quote_hash_mismatch/);
});

test('[MUST] an EK certificate of another EK is refused, with and without require_ek_cert', async (t) => {
  const { ekCa } = machine();
  const ekcert = base64(derOf(issue({ commonName: 'EK', issuer: ekCa, key: other.ek })));
  for (const require_ek_cert of ['True', 'False']) {
    const scene = await refused(t, { record: { ekcert } }, /its EK certificate is for another EK/, { require_ek_cert });
    assert.deepEqual(scene.agent.seen, [], 'the agent was not asked');
  }
});

test('[MUST] an EK certificate that no trusted maker issued is refused', async (t) => {
  const { tpm } = machine();
  const fake = issue({ commonName: 'TPM maker', ca: true });
  const bySameName = base64(derOf(issue({ commonName: 'EK', issuer: fake, key: tpm.ek })));
  await refused(t, { record: { ekcert: bySameName } }, /Invalid EK certificate: the signature is not by the key of/);
  const bySelf = base64(derOf(issue({ commonName: 'EK', key: tpm.ek })));
  await refused(
    t,
    { record: { ekcert: bySelf } },
    /Invalid EK certificate: no certificate of the trust store is the issuer/,
  );
});

test('[MUST] no EK certificate, one that cannot be read, or the word emulator is refused', async (t) => {
  await refused(t, { record: { ekcert: null } }, /registered without an EK certificate/);
  await refused(t, { record: { ekcert: '' } }, /registered without an EK certificate/);
  await refused(t, { record: { ekcert: 'AAAA' } }, /cannot be read/);
  await refused(t, { record: { ekcert: 'emulator' } }, /cannot be read/);
});

test('[MUST] an empty or missing store of makers trusts nobody', async (t) => {
  await refused(t, { emptyStore: true }, /the trust store holds no certificate/);
  await refused(t, {}, /the trust store holds no certificate/, { tpm_cert_store: '/nonexistent/store' });
});

test('[MUST] the certificate of a provider is checked like the own one', async (t) => {
  await refused(
    t,
    { record: { provider_keys: { ekcert: 'AAAA' } } },
    /of its provider: its EK certificate cannot be read/,
  );
  await refused(t, { record: { provider_keys: { ek_tpm: 'x' } } }, /of its provider: .*without an EK certificate/);
});

test('[MUST] what is no endorsement key is refused', async (t) => {
  const { tpm } = machine();
  await refused(t, { record: { ek_tpm: base64(tpm.akPublic) } }, /is no endorsement key/);
  await refused(t, { record: { ek_tpm: base64(ekPublicOf(tpm.ek).subarray(0, 100)) } }, /ek_tpm .* is malformed/);
});

test('[MUST] an ek_check_script that refuses, or that is not there, refuses the agent', async (t) => {
  await refused(t, {}, /External check script .* not found/, { ek_check_script: 'absent.sh' });
  const scene = await openScene(t);
  const script = path.join(scene.lab.workDir, 'no.sh');
  writeFileSync(script, '#!/bin/sh\necho unknown maker\nexit 1\n');
  chmodSync(script, 0o755);
  for (const require_ek_cert of ['True', 'False']) {
    const outcome = await scene.tenant(['-c', 'add', '-u', AGENT], { ek_check_script: script, require_ek_cert });
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /failed to validate EK: unknown maker/);
  }
  assert.deepEqual(scene.verifier.seen, []);
});

test('[MUST] hole 10: the EK is checked in push mode, too', async (t) => {
  for (const twist of [{ emptyStore: true }, { record: { ekcert: null } }]) {
    const scene = await openScene(t, twist);
    const outcome = await scene.tenant(['-c', 'add', '-u', AGENT, '--push-model']);
    assert.equal(outcome.code, 1);
    assert.match(outcome.messages.at(-1) ?? '', /EK of agent .* rejected/);
    assert.deepEqual(scene.verifier.seen, []);
  }
});

test('[MUST] the record of another agent is not taken for the one that was asked for', async (t) => {
  await refused(t, { record: { agent_id: 'another' } }, /sent a record of agent .* that is of another agent/);
});

test('a policy with another checksum, or a signed one without a key, enrols nobody', async (t) => {
  const scene = await openScene(t);
  const policy = path.join(scene.lab.workDir, 'policy.json');
  writeFileSync(policy, '{"payload": "e30=", "payloadType": "x", "signatures": []}');
  const add = (...more: readonly string[]) => scene.tenant(['-u', AGENT, '--runtime-policy', policy, ...more]);
  assert.match(
    (await add('--runtime-policy-checksum', '00')).messages.at(-1) ?? '',
    /Checksum of runtime policy does not match/,
  );
  assert.match((await add()).messages.at(-1) ?? '', /verification required but no key was given/);
  assert.deepEqual(scene.verifier.seen, []);
});
