import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { certificatePem } from '@keylime/identity/certificate';
import { commonName, forgeCertificate } from '@keylime/identity/forge-certificate';
import fc from 'fast-check';
import { parseRegistration } from './registration-request.ts';

const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [first, second] = ['first', 'second'].map((name) =>
  forgeCertificate({ subject: commonName(name), issuer: commonName('ca'), key: publicKey, signer: privateKey }),
) as [Buffer, Buffer];

const fieldsOf = (body: unknown) => {
  const parsed = parseRegistration(body);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value.fields;
};
const problemsOf = (body: unknown) => {
  const parsed = parseRegistration(body);
  return parsed.ok ? [] : parsed.problem.map(({ kind, field }) => `${kind} ${field}`);
};

test('keys come as base64 or, failing that, as hex with or without 0x', () => {
  for (const text of ['AQIDBA==', '01020304', '0x01020304']) {
    const bytes = text.startsWith('0') && text.length === 8 ? Buffer.from(text, 'base64') : Buffer.from([1, 2, 3, 4]);
    assert.deepEqual(fieldsOf({ ek_tpm: text }).ekPublic, bytes, text);
  }
  assert.deepEqual(fieldsOf({ ek_tpm: '0102030' + '405' }).ekPublic, Buffer.from([1, 2, 3, 4, 5]));
});

test('a field left out is not there, and one that is null or empty is cleared', () => {
  assert.deepEqual(fieldsOf({}), {});
  assert.deepEqual(fieldsOf({ ekcert: '', aik_tpm: null, ip: '', port: null, mtls_cert: '' }), {
    ekCertificate: null,
    ekIntermediates: [],
    akPublic: null,
    ip: null,
    port: null,
    mtlsCertificate: null,
  });
});

test('of several certificates the first is the EK certificate and the others help to verify it', () => {
  const fields = fieldsOf({ ekcert: certificatePem(first) + certificatePem(second) });
  assert.deepEqual(fields.ekCertificate, first);
  assert.deepEqual(fields.ekIntermediates, [second]);
  assert.deepEqual(fieldsOf({ ekcert: first.toString('base64') }).ekCertificate, first);
});

test('the TLS certificate is kept as PEM, and the word disabled in any case', () => {
  assert.equal(fieldsOf({ mtls_cert: first.toString('base64') }).mtlsCertificate, certificatePem(first));
  assert.equal(fieldsOf({ mtls_cert: 'Disabled' }).mtlsCertificate, 'disabled');
});

test('contact data: addresses, host names, ports as number or text', () => {
  for (const ip of ['10.0.0.5', 'fe80::1%eth0', '[::1]', 'host-1.example']) assert.equal(fieldsOf({ ip }).ip, ip);
  assert.equal(fieldsOf({ port: '9002' }).port, 9002);
  assert.equal(fieldsOf({ port: 65535 }).port, 65535);
});

test('every malformed field is reported by name', () => {
  assert.deepEqual(
    problemsOf({
      ek_tpm: '*',
      aik_tpm: 5,
      ekcert: 'no certificate',
      iak_cert: ['x'],
      ip: 'a b',
      port: 70000,
      mtls_cert: {},
      iak_sign: false,
    }),
    ['ekcert', 'iak_cert', 'ek_tpm', 'aik_tpm', 'ip', 'port', 'mtls_cert', 'iak_sign'].map(
      (name) => `field_malformed ${name}`,
    ),
  );
  for (const port of ['x', 1.5, -1, '123456', true, [1]])
    assert.deepEqual(problemsOf({ port }), ['field_malformed port']);
});

test('a body that is no object has no fields, and inherited names are none', () => {
  for (const body of [undefined, null, [], [{ ek_tpm: 'AQ==' }], 'text', 5]) assert.deepEqual(fieldsOf(body), {});
  assert.deepEqual(fieldsOf(JSON.parse('{"__proto__": {"port": "x"}}')), {});
});

test('no JSON at all makes the parser throw', () => {
  const names = ['ek_tpm', 'ekcert', 'aik_tpm', 'iak_cert', 'ip', 'port', 'mtls_cert', 'iak_attest', 'iak_sign'];
  const body = fc.dictionary(
    fc.constantFrom(...names),
    fc.oneof(fc.jsonValue(), fc.base64String(), fc.constant('disabled')),
  );
  fc.assert(fc.property(body, (value) => typeof parseRegistration(value).ok === 'boolean'));
});
