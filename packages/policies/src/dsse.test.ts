import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  ecdsaKeyId,
  KEYLIME_PAYLOAD_TYPE,
  parseEnvelope,
  parsePolicyKey,
  signEnvelope,
  verifyEnvelope,
  x509KeyId,
} from './dsse.ts';

/** 03 sections 6.3 and 9.1 of the reference. */
const EXAMPLE_KEY = createPublicKey({
  key: Buffer.from(
    'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFOoNhXDpHbUAqVmVuhYLFNXjdynvNA/f2WtlF7KhEV7WJZjM/qx2K7fZ1l+1OHFUQMFKpTUA58J6mlG1XgtABQ==',
    'base64',
  ),
  format: 'der',
  type: 'spki',
});
const EXAMPLE = {
  payload: Buffer.from('{"demo": true}').toString('base64'),
  payloadType: KEYLIME_PAYLOAD_TYPE,
  signatures: [
    {
      keyid: '1c50c478c5cff530019c86dac6dce29040b28781ae74eeb627a460e423076881',
      sig: 'MEUCIQDCsEUFR7bR54x+dDikmjoaG7qrLhzhBjX40Ta4dQ1RuAIgT+9Tgw0T5y24t7GBTS9jdIsThXKubo/d7Mzrj3BgWvo=',
    },
  ],
};

const p521 = generateKeyPairSync('ec', { namedCurve: 'P-521' });
const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });

function verifies(envelope: object, ...keys: Parameters<typeof verifyEnvelope>[1]): boolean | string {
  const parsed = parseEnvelope(JSON.stringify(envelope));
  return parsed.ok ? verifyEnvelope(parsed.value, keys) : parsed.problem;
}

test('the example of the reference verifies, and names the key as existing tools do', () => {
  assert.equal(verifies(EXAMPLE, EXAMPLE_KEY), true);
  assert.equal(ecdsaKeyId(EXAMPLE_KEY), EXAMPLE.signatures[0]?.keyid);
});

test('what is signed here verifies with its key and with no other', () => {
  const envelope = JSON.parse(signEnvelope(Buffer.from('{"a": 1}'), p521.privateKey, ecdsaKeyId(p521.privateKey)));
  assert.equal(verifies(envelope, p521.publicKey), true);
  assert.equal(verifies(envelope, other.publicKey), false);
  assert.equal(verifies(envelope, other.publicKey, p521.publicKey), true, 'any of the keys will do');
  assert.equal(verifies(envelope), false, 'without a key nothing is verified');
  assert.equal(envelope.signatures[0].keyid, ecdsaKeyId(p521.publicKey));
});

test('another payload, and another type of payload, are not what was signed', () => {
  assert.equal(verifies({ ...EXAMPLE, payload: Buffer.from('{"demo": 1}').toString('base64') }, EXAMPLE_KEY), false);
  assert.equal(verifies({ ...EXAMPLE, payloadType: 'application/json' }, EXAMPLE_KEY), false);
});

test('a key id decides nothing: neither a wrong one nor one that is a path', () => {
  for (const keyid of ['', '../../etc/passwd', x509KeyId('-----BEGIN CERTIFICATE-----')]) {
    const signatures = EXAMPLE.signatures.map((signature) => ({ ...signature, keyid }));
    assert.equal(verifies({ ...EXAMPLE, signatures }, EXAMPLE_KEY), true);
    assert.equal(verifies({ ...EXAMPLE, signatures }, other.publicKey), false);
  }
});

test('bytes are read as hexadecimal first, then as base64 in either alphabet', () => {
  const [signature] = EXAMPLE.signatures;
  assert.ok(signature);
  const inHex = { ...signature, sig: Buffer.from(signature.sig, 'base64').toString('hex') };
  const forUrls = { ...signature, sig: signature.sig.replaceAll('+', '-').replaceAll('/', '_') };
  assert.equal(verifies({ ...EXAMPLE, signatures: [inHex] }, EXAMPLE_KEY), true);
  assert.equal(verifies({ ...EXAMPLE, signatures: [forUrls] }, EXAMPLE_KEY), true);
  const payload = Buffer.from('{"demo": true}').toString('hex');
  assert.equal(verifies({ ...EXAMPLE, payload }, EXAMPLE_KEY), true);
});

for (const [changes, problem] of [
  [{ payload: 1 }, "'payload' must be text in base64"],
  [{ payload: '!' }, "'payload' is not base64"],
  [{ payloadType: null }, "'payloadType' must be text"],
  [{ signatures: {} }, "'signatures' must be a list"],
  [{ signatures: [] }, 'it has no signatures'],
  [{ signatures: [{ keyid: '' }] }, "signature 0 has no 'sig'"],
  [{ signatures: [{ sig: '?' }] }, 'signature 0 is not base64'],
] as const) {
  test(`an envelope is refused: ${problem}`, () => assert.equal(verifies({ ...EXAMPLE, ...changes }), problem));
}

test('no text makes an envelope throw, and no bytes are a signature', () => {
  fc.assert(fc.property(fc.json(), (text) => typeof parseEnvelope(text).ok === 'boolean'));
  fc.assert(
    fc.property(
      fc.uint8Array(),
      (bytes) =>
        verifies({ ...EXAMPLE, signatures: [{ sig: Buffer.from(bytes).toString('base64') }] }, EXAMPLE_KEY) === false,
    ),
  );
});

test('keys that cannot sign a policy are refused in words', () => {
  const pem = (key: typeof p521.publicKey) => key.export({ format: 'pem', type: 'spki' }).toString();
  assert.equal(parsePolicyKey(pem(p521.publicKey)).ok, true);
  const rsa = parsePolicyKey(pem(generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey));
  assert.match(rsa.ok ? '' : rsa.problem, /of type rsa: an EC key is wanted/);
  const secret = parsePolicyKey(p521.privateKey.export({ format: 'pem', type: 'pkcs8' }).toString());
  assert.match(secret.ok ? '' : secret.problem, /private key/);
  const nonsense = parsePolicyKey('nonsense');
  assert.match(nonsense.ok ? '' : nonsense.problem, /not a public key or a certificate/);
});
