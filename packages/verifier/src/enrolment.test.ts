import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { parseAgentId } from '@keylime/core/agent-id';
import type { Json } from '@keylime/core/json';
import { softwareAk } from '@keylime/testing/software-ak';
import { testCa } from '@keylime/testing/test-certificates';
import { encodePublic } from '@keylime/tpm/public';
import fc from 'fast-check';
import { decodeEnrolment } from './enrolment.ts';

const id = parseAgentId('agent-1');
assert.ok(id);
const agentId = id;
const ak = softwareAk({ encryption: 'ecc256' });
const certificate = await (await testCa()).issue({ commonNames: ['agent-1'], purpose: 'serverAuth' });
const settings = { mode: 'pull', enableAgentMtls: true, verifierIp: '10.0.0.1', verifierPort: 8881 } as const;

const body: { readonly [key: string]: Json } = {
  v: null,
  cloudagent_ip: '10.1.2.3',
  cloudagent_port: '9002',
  tpm_policy: '{"22": ["0000000000000000000000000000000000000001"], "mask": "0x400400"}',
  metadata: '{}',
  runtime_policy: '',
  runtime_policy_name: '',
  runtime_policy_key: '',
  mb_policy: null,
  mb_policy_name: '',
  ima_sign_verification_keys: '',
  revocation_key: '',
  accept_tpm_hash_algs: ['sha256'],
  accept_tpm_encryption_algs: ['rsa'],
  accept_tpm_signing_algs: ['rsassa'],
  ak_tpm: encodePublic(ak.public).toString('base64'),
  mtls_cert: certificate.certPem,
  supported_version: '2.3',
};

const problemsOf = (changes: { readonly [key: string]: Json | undefined }): readonly string[] => {
  const changed = Object.fromEntries(
    Object.entries({ ...body, ...changes }).filter(([, value]) => value !== undefined),
  );
  const decoded = decodeEnrolment(agentId, changed as Json, settings);
  return decoded.ok ? [] : decoded.problem;
};

test("a tenant's body is an enrolment: ports as text, empty names as none, the verifier's address by default", () => {
  const decoded = decodeEnrolment(agentId, body, settings);
  assert.ok(decoded.ok);
  assert.equal(decoded.value.port, 9002);
  assert.equal(decoded.value.supportedVersion, '2.3');
  assert.equal(decoded.value.verifierIp, '10.0.0.1');
  assert.deepEqual(decoded.value.runtimePolicy, { name: undefined, text: undefined, keyPem: undefined });
});

test('every required field that is missing is named, all at once', () => {
  const decoded = decodeEnrolment(agentId, {}, settings);
  assert.ok(!decoded.ok);
  for (const field of ['cloudagent_ip', 'cloudagent_port', 'tpm_policy', 'metadata', 'ak_tpm', 'revocation_key']) {
    assert.ok(
      decoded.problem.some((problem) => problem.startsWith(`${field} is missing`)),
      field,
    );
  }
});

test('without a certificate an agent is enrolled only where mTLS is switched off', () => {
  for (const mtls_cert of [null, '', 'disabled', undefined]) {
    assert.deepEqual(problemsOf({ mtls_cert }), ['mTLS certificate for agent is required!']);
  }
  const decoded = decodeEnrolment(agentId, { ...body, mtls_cert: 'disabled' }, { ...settings, enableAgentMtls: false });
  assert.ok(decoded.ok && decoded.value.mtlsCert === undefined);
});

test('an AK that is no restricted signing key of a TPM is not enrolled', () => {
  const loose = { ...ak.public, objectAttributes: { ...ak.public.objectAttributes, restricted: false } };
  const [problem] = problemsOf({ ak_tpm: encodePublic(loose).toString('base64') });
  assert.match(problem ?? '', /^ak_tpm is not an attestation key/);
});

test('measured boot: a name, a reference state as JSON text and the policy it is for, empty text as none', () => {
  const brought = (changes: { readonly [key: string]: Json }) => {
    const decoded = decodeEnrolment(agentId, { ...body, ...changes }, settings);
    return decoded.ok ? decoded.value.mbPolicy : decoded.problem;
  };
  assert.deepEqual(brought({}), { name: undefined, text: undefined, rules: undefined });
  const all = { mb_policy_name: 'web', mb_policy: '{"kernels": []}', mb_policy_rules: 'strict' };
  assert.deepEqual(brought(all), { name: 'web', text: '{"kernels": []}', rules: 'strict' });
  assert.deepEqual(brought({ mb_policy: { kernels: [] } }), ['mb_policy must be text or null']);
});

test('a key share has 16 or 32 bytes; a problem does not show it', () => {
  const share = (v: unknown) => {
    const decoded = decodeEnrolment(agentId, { ...body, v } as typeof body, settings);
    return decoded.ok ? decoded.value.keyShare?.length : decoded.problem;
  };
  assert.equal(share(Buffer.alloc(32, 7).toString('base64')), 32);
  assert.equal(share(Buffer.alloc(16, 7).toString('base64')), 16);
  for (const none of [null, undefined, '']) assert.equal(share(none), undefined);
  for (const wrong of ['AAAA', 'no base64!', Buffer.alloc(33).toString('base64')]) {
    assert.deepEqual(share(wrong), ["v must be 16 or 32 bytes in base64: the verifier's half of the payload key"]);
  }
  assert.deepEqual(share(7), ['v must be text or null']);
});

test('keys for signatures of files are kept if there are any, and must be usable', () => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
  const keyring = JSON.stringify({ pubkeys: [key.toString('base64')], keyids: [0] });
  const kept = (text: string | null) => {
    const decoded = decodeEnrolment(agentId, { ...body, ima_sign_verification_keys: text }, settings);
    return decoded.ok ? decoded.value.imaSignVerificationKeys : decoded.problem;
  };
  assert.equal(kept(keyring), keyring);
  for (const none of ['', '[]', '""', null]) assert.equal(kept(none), undefined);
  assert.deepEqual(kept('{}'), ["ima_sign_verification_keys: 'pubkeys' must be a list of texts"]);
  assert.deepEqual(kept('{"pubkeys": ["AAAA"], "keyids": []}'), [
    'ima_sign_verification_keys: key 0 is not a public key in DER',
  ]);
});

test('malformed values are named by their field', () => {
  const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey.export({ type: 'pkcs8', format: 'pem' });
  for (const [field, value] of [
    ['cloudagent_port', 0],
    ['cloudagent_port', 70000],
    ['cloudagent_port', '9002x'],
    ['tpm_policy', '{"16": "00"}'],
    ['tpm_policy', { mask: '0x400' }],
    ['metadata', 'not json'],
    ['runtime_policy', '%%%'],
    ['runtime_policy_name', 7],
    ['accept_tpm_hash_algs', 'sha256'],
    ['accept_tpm_signing_algs', [1]],
    ['ak_tpm', 'AAAA'],
    ['ak_tpm', '!'],
    ['mtls_cert', 'PEM'],
    ['revocation_key', 'PEM'],
    ['revocation_key', String(ec)],
  ] as const) {
    const problems = problemsOf({ [field]: value as Json });
    assert.ok(
      problems.some((problem) => problem.startsWith(field)),
      `${field}: ${problems.join('; ')}`,
    );
  }
});

test('whatever stands in one field, the result is an enrolment or problems', () => {
  fc.assert(
    fc.property(fc.constantFrom(...Object.keys(body)), fc.jsonValue(), (field, value) => {
      const decoded = decodeEnrolment(agentId, { ...body, [field]: value as Json }, settings);
      assert.ok(decoded.ok || decoded.problem.length > 0);
    }),
  );
});
