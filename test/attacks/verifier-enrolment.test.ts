import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { LyingAgent } from '@keylime/testing/lying-agent';
import { softwareAk } from '@keylime/testing/software-ak';
import { testAgentIdentity } from '@keylime/testing/test-certificates';
import { attributesOf, encodePublic, type ObjectAttribute, type TpmtPublic } from '@keylime/tpm/public';
import fc from 'fast-check';
import { type AttackedVerifier, base64, enrolment, runtimePolicy, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Enrolment: what is refused leaves nothing behind, what is taken is what was sent, and no body makes the service fail.
 */
let verifier: AttackedVerifier;
let agent: LyingAgent;
before(async () => {
  verifier = await startAttackedVerifier();
  agent = await verifier.agent('template');
});
after(() => verifier?.stop());

const enrol = (id: string, changes: Readonly<Record<string, unknown>> = {}) =>
  verifier.ask({ method: 'POST', path: `/v2.6/agents/${id}`, json: enrolment(agent, changes) });
const policyNames = async () => (await verifier.ask({ path: '/v2.6/allowlists' })).results['runtimepolicy names'];
const exists = async (id: string) => (await verifier.ask({ path: `/v2.6/agents/${id}` })).code === 200;

async function assertRefused(id: string, changes: Readonly<Record<string, unknown>>, code: number, status: RegExp) {
  const before = await policyNames();
  const answer = await enrol(id, changes);
  assert.equal(answer.code, code, answer.text.slice(0, 500));
  assert.match(answer.status, status);
  assert.ok(answer.text.length < 10_000, 'the answer is short');
  assert.equal(await exists(id), false);
  assert.deepEqual(await policyNames(), before, 'no policy was left behind');
}

test('[MUST 02 G1] an AK that is no restricted signing key of a TPM is not enrolled', async () => {
  const ak = softwareAk({ encryption: 'ecc256' });
  const ak_tpm = (...attributes: ObjectAttribute[]) =>
    encodePublic({ ...ak.public, objectAttributes: attributesOf(...attributes) } as TpmtPublic).toString('base64');
  const all = ['fixedTPM', 'fixedParent', 'sensitiveDataOrigin', 'userWithAuth', 'restricted', 'sign'] as const;
  for (const left of all) {
    const wrong = { ak_tpm: ak_tpm(...all.filter((name) => name !== left)) };
    await assertRefused('loose', wrong, 400, /^ak_tpm is not an attestation key/);
  }
  await assertRefused('loose', { ak_tpm: ak_tpm(...all, 'decrypt') }, 400, /^ak_tpm is not an attestation key/);
});

test('[MUST] without a certificate no agent is enrolled', async () => {
  for (const mtls_cert of [null, '', 'disabled', undefined]) {
    await assertRefused('open', { mtls_cert }, 400, /mTLS certificate for agent is required!/);
  }
});

test('[MUST] a policy of the same name as the agent is not taken for the one submitted', async () => {
  const allowAll = runtimePolicy({ excludes: ['.*'] });
  const posted = { method: 'POST', path: '/v2.6/allowlists/replayed', json: { runtime_policy: base64(allowAll) } };
  assert.equal((await verifier.ask(posted)).code, 201);
  await assertRefused('replayed', {}, 409, /IMA policy with name replayed already exists/);
  await assertRefused('other', { runtime_policy_name: 'replayed' }, 409, /replayed already exists/);
  const { results } = await verifier.ask({ path: '/v2.6/allowlists/replayed' });
  assert.equal(results.runtime_policy, allowAll);
});

test('[MUST] an enrolment that fails late leaves nothing of its policy behind', async () => {
  for (const [changes, code, status] of [
    [{ ak_tpm: 'AAAA' }, 400, /^ak_tpm/],
    [{ mtls_cert: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n' }, 400, /^mtls_cert/],
    [{ runtime_policy: '', runtime_policy_name: 'absent' }, 404, /Could not find IMA policy with name absent!/],
    [{ runtime_policy: base64('{}') }, 400, /Runtime policy is malformatted/],
    [{ runtime_policy: base64('{"payload": ""}') }, 400, /DSSE envelope/],
  ] as const) {
    await assertRefused('late', changes, code, status);
  }
  assert.equal((await enrol('late')).code, 200);
  assert.equal((await enrol('late', { runtime_policy_name: 'late-policy' })).code, 409);
  assert.ok(!JSON.stringify(await policyNames()).includes('late-policy'), 'the second enrolment left no policy');
});

test('of many enrolments at the same time one is taken', async () => {
  const answers = await Promise.all(Array.from({ length: 12 }, () => enrol('contested')));
  const codes = answers.map(({ code }) => code).sort();
  assert.deepEqual(codes, [200, ...Array.from({ length: 11 }, () => 409)]);
});

test('an agent that is deleted and enrolled at the same time, over and over, is there or not', async () => {
  for (let round = 0; round < 5; round++) {
    const answers = await Promise.all([
      enrol('flicker'),
      verifier.ask({ method: 'DELETE', path: '/v2.6/agents/flicker' }),
      enrol('flicker'),
      verifier.ask({ method: 'PUT', path: '/v2.6/agents/flicker/stop' }),
    ]);
    for (const { code, text } of answers) assert.ok([200, 404, 409].includes(code), text);
  }
  const there = await exists('flicker');
  assert.equal(JSON.stringify(await policyNames()).includes('"flicker"'), there, 'the policy goes with the agent');
});

test('what an enrolment cannot mean is refused by the name of its field', async () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  const { certPem } = await testAgentIdentity('x');
  for (const [field, ...values] of [
    ['cloudagent_ip', '', 'a b', 'x/y', 'user@host', 'host\u0000', 5, null, ['127.0.0.1'], 'a'.repeat(300)],
    ['cloudagent_port', 0, -1, 65_536, 1.5, '0x10', '9002 ', '', null, '99999999999999999999'],
    ['verifier_ip', 7, {}],
    ['verifier_port', 'x', 0, [], '99999'],
    ['tpm_policy', '', '[]', 'null', '{"24": "00"}', '{"16": "00"}', '{"mask": "0x1000000"}', {}, '{"0": "zz"}'],
    ['metadata', '{', 5, null],
    ['runtime_policy', '%', 5, null, Buffer.from([0xff, 0xfe, 0x7b]).toString('base64')],
    ['runtime_policy_name', 5, 'a\u0000b', 'a\nb', 'a'.repeat(256), '\ud800', '\u007f'],
    ['runtime_policy_key', 5, '%'],
    ['ima_sign_verification_keys', '{}', 5],
    ['revocation_key', 'PEM', String(ec), certPem, 5, null],
    ['accept_tpm_hash_algs', 'sha256', [1], null, {}, [['sha256']]],
    ['accept_tpm_encryption_algs', null, [null]],
    ['accept_tpm_signing_algs', null, 5],
    ['ak_tpm', '', '!', 'AAAA', 5, null, agent.registered.ak_tpm.slice(0, 40), `${agent.registered.ak_tpm}AAAA`],
    ['mtls_cert', 'PEM', 5, agent.registered.mtls_cert.slice(0, 200)],
    ['supported_version', 5, {}],
    ['v', 'AAAA', 5],
    ['mb_policy', '{', 5, {}],
    ['mb_policy_name', 'a\nb', 5],
    ['mb_policy_rules', 'nobody', 5],
  ] as const) {
    for (const value of values) {
      await assertRefused('wrong', { [field]: value }, 400, new RegExp(field));
    }
  }
});

test('every required field that is missing is named, all at once', async () => {
  const answer = await verifier.ask({ method: 'POST', path: '/v2.6/agents/none', json: {} });
  assert.equal(answer.code, 400);
  for (const field of ['cloudagent_ip', 'cloudagent_port', 'tpm_policy', 'metadata', 'ak_tpm', 'revocation_key']) {
    assert.match(answer.status, new RegExp(`${field} is missing`));
  }
});

test('[property] whatever stands in whichever fields, the answer is 200 or a 4xx that names one of them', async () => {
  const template = enrolment(agent);
  const fields = Object.keys(template);
  const value = fc.oneof(
    fc.jsonValue(),
    fc.string({ unit: 'binary' }),
    fc.string().map(base64),
    fc.constant(undefined),
  );
  const changes = fc.dictionary(fc.constantFrom(...fields), value, { minKeys: 1, maxKeys: 3 });
  await fc.assert(
    fc.asyncProperty(changes, async (changed) => {
      const answer = await enrol('mutant', changed);
      const known = answer.code === 200 || (answer.code >= 400 && answer.code < 500);
      assert.ok(known, `${answer.code}: ${answer.text}`);
      if (answer.code === 400) {
        const named = [...Object.keys(changed), 'mTLS certificate', 'Runtime policy', 'valid JSON'];
        assert.ok(
          named.some((field) => answer.status.includes(field)),
          answer.status,
        );
      }
      if (answer.code === 200) {
        assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/agents/mutant' })).code, 200);
      }
    }),
    { numRuns: 150 },
  );
  assert.equal(await exists('mutant'), false);
});

test('agents that were enrolled are attested, however odd what was not judged', async () => {
  const odd = await verifier.agent('odd');
  await verifier.enrol(odd, {
    metadata: '{"\u00e9\\u0000": "\\ud800"}',
    verifier_ip: 'anything \u0000 at all',
    accept_tpm_hash_algs: ['sha256', '\u0000', 'x'.repeat(10_000)],
    runtime_policy_name: 'Ünïcode / name?',
    supported_version: '99.9',
    unknown_field: { deep: [] },
  });
  const status = await verifier.until('odd', ({ attestation_count }) => attestation_count > 0);
  assert.equal(status.last_event_id, null);
});
