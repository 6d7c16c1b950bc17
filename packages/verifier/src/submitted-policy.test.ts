import assert from 'node:assert/strict';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { test } from 'node:test';
import { ecdsaKeyId, signEnvelope } from '@keylime/policies/dsse';
import { EMPTY_RUNTIME_POLICY_TEXT, runtimePolicyChecksum } from '@keylime/policies/runtime-policy';
import { acceptPolicy, isRefusal, type SubmissionSettings } from './submitted-policy.ts';

const POLICY = EMPTY_RUNTIME_POLICY_TEXT.replace('"generator": 1', '"generator": 3');
const pair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const signer = pair();
const stranger = pair();
const pem = (key: KeyObject) => key.export({ format: 'pem', type: 'spki' }).toString();
const signed = (by = signer, text = POLICY) => signEnvelope(Buffer.from(text), by.privateKey, ecdsaKeyId(by.publicKey));

const warnings: string[] = [];
const log = { warn: (event: string) => void warnings.push(event) };
const relaxed: SubmissionSettings = { requireSignature: false, pinnedKeys: [], log };
const strict: SubmissionSettings = { requireSignature: true, pinnedKeys: [], log };
const pinned: SubmissionSettings = { requireSignature: true, pinnedKeys: [signer.publicKey], log };

const submit = async (text: string, key: KeyObject | string | undefined, settings: SubmissionSettings) => {
  const keyPem = typeof key === 'object' ? pem(key) : key;
  const result = await acceptPolicy('p', { text, keyPem }, settings);
  return isRefusal(result) ? `${result.code} ${result.status}` : result;
};

const NO_KEY = '401 Runtime policy signature verification required but no key was given!';
const BAD = '401 Runtime policy failed DSSE signature verification!';

test('a signed policy is stored in its envelope, under the checksum of all of it', async () => {
  const text = signed();
  assert.deepEqual(await submit(text, signer.publicKey, strict), {
    name: 'p',
    text,
    checksum: runtimePolicyChecksum(text),
    generator: 3,
    signature_key: pem(signer.publicKey),
  });
});

for (const [what, text, key, settings, expected] of [
  ['an unsigned policy where signatures are required', POLICY, undefined, strict, NO_KEY],
  ['an unsigned policy with a key where signatures are required', POLICY, signer.publicKey, strict, NO_KEY],
  ['a signed policy without a key where signatures are required', signed(), undefined, strict, NO_KEY],
  ['a policy signed by somebody else', signed(stranger), signer.publicKey, strict, BAD],
  [
    'a policy signed by somebody else, although no signature is required',
    signed(stranger),
    signer.publicKey,
    relaxed,
    BAD,
  ],
  [
    'a policy signed by a key that came with it, where others are pinned',
    signed(stranger),
    stranger.publicKey,
    pinned,
    BAD,
  ],
  ['a key with a policy that is not signed', POLICY, signer.publicKey, relaxed, '400 Runtime policy is not signed!'],
  ['what is no JSON', '{', undefined, strict, '400 Runtime policy is not valid JSON!'],
  [
    'an envelope around what is no JSON',
    signed(signer, 'x'),
    signer.publicKey,
    strict,
    '400 Runtime policy is not valid JSON!',
  ],
  [
    'an envelope around what is no policy',
    signed(signer, '{}'),
    signer.publicKey,
    strict,
    "400 Runtime policy is malformatted: 'meta' is a required property (and 7 more problems)",
  ],
  [
    'an envelope without signatures',
    '{"payload": "", "payloadType": "", "signatures": []}',
    undefined,
    relaxed,
    '400 Runtime policy is malformatted: DSSE envelope: it has no signatures',
  ],
  [
    'a key that is none',
    signed(),
    'x',
    strict,
    '400 Key of the runtime policy cannot be used: it is not a public key or a certificate in PEM',
  ],
] as const) {
  test(`refused: ${what}`, async () => assert.equal(await submit(text, key, settings), expected));
}

test('a pinned key needs no key with the policy', async () => {
  assert.equal(typeof (await submit(signed(), undefined, pinned)), 'object');
});

test('where no signature is required, an envelope without a key and a plain policy are taken', async () => {
  assert.equal(typeof (await submit(signed(stranger), undefined, relaxed)), 'object');
  assert.equal(typeof (await submit(POLICY, undefined, relaxed)), 'object');
});

test('an exclude that matches a keyring is stored, and warned of', async () => {
  const text = POLICY.replace('"excludes": []', '"excludes": ["\\\\.ima"]');
  assert.ok(typeof (await submit(text, undefined, relaxed)) === 'object');
  assert.match(warnings.at(-1) ?? '', /matches the keyrings \.ima, but excludes admit no keys/);
});
