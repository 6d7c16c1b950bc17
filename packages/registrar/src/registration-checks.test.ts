import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { parseAgentId } from '@keylime/core/agent-id';
import { readCertificate } from '@keylime/identity/certificate';
import {
  caExtension,
  commonName,
  forgeCertificate,
  hardwareName,
  publicKeyInfoAs,
  unorderedName,
} from '@keylime/identity/forge-certificate';
import { AK_ATTRIBUTES } from '@keylime/tpm/key-checks';
import { attributesOf, publicKey } from '@keylime/tpm/public';
import { base64Public, rsaPublic, softwareDeviceIdentity, softwareTpm } from './forge-registration.ts';
import { changesIdentity, EMPTY_REGISTRATION, type Registration } from './registration.ts';
import { judgeRegistration, type RegistrationPolicy } from './registration-checks.ts';
import { parseRegistration } from './registration-request.ts';
import { registrationProblemText, registrationWarningText } from './registration-text.ts';

const agentId = parseAgentId('agent-1');
assert.ok(agentId);
const tpm = softwareTpm();
const device = softwareDeviceIdentity();
const vendor = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const certificate = (parts: Partial<Parameters<typeof forgeCertificate>[0]> = {}) =>
  forgeCertificate({
    subject: commonName('tpm'),
    issuer: commonName('vendor'),
    key: publicKey(tpm.ek),
    signer: vendor.privateKey,
    extensions: [],
    ...parts,
  });
const anchor = readCertificate(
  certificate({ subject: commonName('vendor'), key: vendor.publicKey, extensions: [caExtension()] }),
);
assert.ok(anchor.ok);

const POLICY: RegistrationPolicy = { tpmIdentity: 'ek_cert_or_iak_idevid', malformedCertAction: 'warn' };
function judge(body: unknown, policy: Partial<RegistrationPolicy> = {}, base: Registration = EMPTY_REGISTRATION) {
  const request = parseRegistration(body);
  assert.ok(request.ok, JSON.stringify(request));
  assert.ok(agentId && anchor.ok);
  return judgeRegistration({
    agentId,
    request: request.value,
    base,
    policy: { ...POLICY, ...policy },
    anchors: [anchor.value],
    now: new Date('2026-01-01T00:00:00Z'),
  });
}
const kinds = (judgement: ReturnType<typeof judge>): readonly string[] =>
  judgement.ok ? judgement.warnings.map(({ kind }) => `warn ${kind}`) : judgement.problems.map(({ kind }) => kind);

const iakCertificate = certificate({
  key: device.iakPublicKey,
  extensions: [hardwareName('2.23.133.1.2', Buffer.from('1'))],
});
const idevidCertificate = certificate({
  key: device.idevidPublicKey,
  extensions: [hardwareName('2.23.133.1.2', Buffer.from('1'))],
});
const deviceBody = (more: Record<string, unknown> = {}) =>
  tpm.body({
    ...device.keys,
    iak_cert: iakCertificate.toString('base64'),
    idevid_cert: idevidCertificate.toString('base64'),
    ...device.proof(tpm.ak, 'agent-1'),
    ...more,
  });

test('a registration with the keys of a TPM is accepted', () => {
  assert.deepEqual(kinds(judge(tpm.body())), []);
});

test('R2: an identity of an active record may be filled in but neither changed nor cleared', () => {
  const accepted = judge(tpm.body());
  assert.ok(accepted.ok);
  const active = accepted.registration;
  const another = softwareTpm();
  assert.equal(changesIdentity(active, { akPublic: active.akPublic, ip: '1.2.3.4' }), false);
  assert.equal(changesIdentity(active, { ekCertificate: certificate() }), false);
  assert.equal(changesIdentity({ ...active, ekCertificate: certificate() }, { ekCertificate: null }), true);
  assert.equal(changesIdentity(active, { akPublic: Buffer.from(base64Public(another.ak), 'base64') }), true);
  assert.equal(changesIdentity(active, { ekPublic: Buffer.from(base64Public(another.ek), 'base64') }), true);
  assert.equal(changesIdentity(active, { ekPublic: null }), true);
  assert.equal(changesIdentity(active, { iakPublic: Buffer.alloc(3) }), false);
});

test('R3: an EK certificate for another key is refused, one that calls RSA OAEP is not', () => {
  const ours = certificate({ publicKeyInfo: publicKeyInfoAs(publicKey(tpm.ek), '1.2.840.113549.1.1.7') });
  assert.deepEqual(kinds(judge(tpm.body({ ekcert: ours.toString('base64') }))), []);
  const other = certificate({ key: device.iakPublicKey });
  assert.deepEqual(kinds(judge(tpm.body({ ekcert: other.toString('base64') }))), ['certificate_key_mismatch']);
});

test('R5: an AK that is not exactly a restricted signing key of the TPM is refused', () => {
  const attributes = { ...AK_ATTRIBUTES };
  for (const changed of [
    { ...attributes, fixedTPM: false },
    { ...attributes, fixedParent: false },
    { ...attributes, sensitiveDataOrigin: false },
    { ...attributes, restricted: false },
    { ...attributes, decrypt: true },
    { ...attributes, encryptedDuplication: true },
    attributesOf('userWithAuth', 'sign'), // a software key brought in with LoadExternal
  ]) {
    assert.deepEqual(kinds(judge(softwareTpm({ objectAttributes: changed }).body())), ['key_refused']);
  }
  assert.deepEqual(kinds(judge(softwareTpm({ scheme: { type: 'null' } }).body())), ['key_refused']);
  assert.deepEqual(kinds(judge(softwareTpm({ nameAlg: 'sha1' }).body())), ['key_refused']);
});

test('R6: an EK that signs or is not restricted storage of the TPM is refused', () => {
  for (const objectAttributes of [AK_ATTRIBUTES, attributesOf('fixedTPM', 'fixedParent', 'decrypt')]) {
    const ek_tpm = base64Public({ ...tpm.ek, objectAttributes });
    assert.deepEqual(kinds(judge(tpm.body({ ek_tpm }))), ['key_refused']);
  }
});

test('malformed keys are refused: cut short, bytes left over, not a key', () => {
  const whole = Buffer.from(base64Public(tpm.ak), 'base64');
  for (const bytes of [
    whole.subarray(0, 40),
    Buffer.concat([whole, Buffer.of(0)]),
    whole.subarray(2),
    Buffer.from('key'),
  ]) {
    assert.deepEqual(kinds(judge(tpm.body({ aik_tpm: bytes.toString('base64') }))), ['key_malformed']);
  }
});

test('R7, R8: a device identity of the trusted issuer whose IAK certifies the AK is accepted, in both forms of the id', () => {
  assert.deepEqual(kinds(judge(deviceBody())), []);
  assert.deepEqual(kinds(judge(deviceBody(device.proof(tpm.ak, 'agent-1', 'id')))), []);
});

test('R4, R7: device certificates for another key or of another issuer are refused', () => {
  const swapped = { iak_cert: idevidCertificate.toString('base64'), idevid_cert: iakCertificate.toString('base64') };
  assert.deepEqual(kinds(judge(deviceBody(swapped))), ['certificate_key_mismatch', 'certificate_key_mismatch']);
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const forged = certificate({ key: device.iakPublicKey, signer: stranger.privateKey });
  assert.deepEqual(kinds(judge(deviceBody({ iak_cert: forged.toString('base64') }))), ['certificate_not_trusted']);
});

test('R8: an AK certified for another agent, another AK, by another key or not at all is refused', () => {
  assert.deepEqual(kinds(judge(deviceBody(device.proof(tpm.ak, 'agent-2')))), ['ak_certification_refused']);
  assert.deepEqual(kinds(judge(deviceBody(device.proof(softwareTpm().ak, 'agent-1')))), ['ak_certification_refused']);
  assert.deepEqual(kinds(judge(deviceBody(softwareDeviceIdentity().proof(tpm.ak, 'agent-1')))), [
    'ak_certification_refused',
  ]);
  assert.deepEqual(kinds(judge(deviceBody({ iak_sign: null }))), ['ak_certification_missing']);
  // Nor does leaving the AK out, so that the record's is meant, spare the proof.
  const accepted = judge(tpm.body());
  assert.ok(accepted.ok);
  const { aik_tpm: _, ...withoutAk } = deviceBody({ iak_attest: null, iak_sign: null });
  assert.deepEqual(kinds(judge(withoutAk, {}, accepted.registration)), ['ak_certification_missing']);
});

test('R9, R10: the identity that the policy asks for must be there, and a device identity must be whole', () => {
  assert.deepEqual(kinds(judge(tpm.body(), { tpmIdentity: 'iak_idevid' })), ['root_identity_missing']);
  assert.deepEqual(kinds(judge(deviceBody(), { tpmIdentity: 'iak_idevid' })), []);
  assert.deepEqual(kinds(judge(tpm.body({ ek_tpm: null }), { tpmIdentity: 'ek_cert' })), [
    'root_identity_missing',
    'key_missing',
  ]);
  assert.deepEqual(kinds(judge(deviceBody({ idevid_cert: null }))), ['device_identity_incomplete']);
  const { iak_tpm, idevid_tpm } = device.keys;
  const proof = device.proof(tpm.ak, 'agent-1');
  assert.deepEqual(kinds(judge(tpm.body({ iak_tpm, idevid_tpm, ...proof }))), ['device_identity_incomplete']);
});

test('R11: a certificate that is not strict DER is reported, accepted or refused as the policy says, and kept as it came', () => {
  const malformed = certificate({ subject: unorderedName('tpm') });
  const body = tpm.body({ ekcert: malformed.toString('base64') });
  assert.deepEqual(kinds(judge(body)), ['warn certificate_malformed']);
  assert.deepEqual(kinds(judge(body, { malformedCertAction: 'ignore' })), []);
  assert.deepEqual(kinds(judge(body, { malformedCertAction: 'reject' })), ['certificate_malformed']);
  const accepted = judge(body);
  assert.ok(accepted.ok);
  assert.deepEqual(accepted.registration.ekCertificate, malformed);
});

test('R12: without an AK or an EK there is nothing to challenge', () => {
  assert.deepEqual(kinds(judge(tpm.body({ aik_tpm: null }))), ['key_missing']);
  assert.deepEqual(kinds(judge({ ip: '6.6.6.6' })), ['root_identity_missing', 'key_missing', 'key_missing']);
});

test('what an active record has need not be sent again', () => {
  const accepted = judge(deviceBody());
  assert.ok(accepted.ok);
  const again = judge({ ip: 'host', port: 1 }, {}, accepted.registration);
  assert.ok(again.ok);
  assert.deepEqual(again.registration, { ...accepted.registration, ip: 'host', port: 1 });
});

test('problems and warnings are told in words that begin with the field', () => {
  const judgement = judge(tpm.body({ aik_tpm: base64Public(rsaPublic(publicKey(tpm.ek), {})) }));
  assert.ok(!judgement.ok);
  for (const problem of judgement.problems) assert.match(registrationProblemText(problem), /^aik_tpm: /);
  const unnamed = judge(deviceBody({ iak_cert: certificate({ key: device.iakPublicKey }).toString('base64') }));
  assert.ok(unnamed.ok);
  assert.deepEqual(unnamed.warnings.map(registrationWarningText), [
    'iak_cert does not name a TPM in a HardwareModuleName',
  ]);
});
