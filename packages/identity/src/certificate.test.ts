import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  certificateKey,
  certificatePem,
  certifiesKey,
  parseCertificate,
  parseCertificates,
  readCertificate,
} from './certificate.ts';
import { hardwareModuleName, namesTpmHardware } from './certificate-extensions.ts';
import {
  caExtension,
  commonName,
  forgeCertificate,
  hardwareName,
  publicKeyInfoAs,
  unorderedName,
} from './forge-certificate.ts';

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const names = { subject: commonName('ek'), issuer: commonName('vendor') };
const ekCertificate = forgeCertificate({ ...names, key: rsa.publicKey, signer: ec.privateKey, extensions: [] });

const read = (der: Buffer) => {
  const parsed = readCertificate(der);
  assert.ok(parsed.ok, JSON.stringify(parsed));
  return parsed.value;
};

test('a certificate is read from base64 DER, and from the first block of PEM text', () => {
  const other = forgeCertificate({ ...names, key: ec.publicKey, signer: ec.privateKey });
  for (const text of [ekCertificate.toString('base64'), certificatePem(ekCertificate) + certificatePem(other)]) {
    const parsed = parseCertificate(text);
    assert.ok(parsed.ok);
    assert.deepEqual(parsed.value.der, ekCertificate);
    assert.equal(parsed.value.malformed, undefined);
    assert.deepEqual(parsed.value.subject, names.subject);
    assert.deepEqual(parsed.value.issuer, names.issuer);
    assert.equal(parsed.value.notAfter.toISOString(), '2045-01-01T00:00:00.000Z');
    assert.equal(parsed.value.signatureAlgorithm, '1.2.840.10045.4.3.2');
  }
  assert.equal(parseCertificates(certificatePem(ekCertificate) + certificatePem(other)).length, 2);
});

test('text that is no certificate is refused', () => {
  for (const text of [
    '',
    'disabled',
    '-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----',
    'AAAA',
    '-----BEGIN X-----',
  ]) {
    const parsed = parseCertificate(text);
    assert.equal(parsed.ok ? 'read' : parsed.problem.kind, 'certificate_unreadable', text);
  }
});

test('a certificate cut short anywhere is refused', () => {
  for (let n = 0; n < ekCertificate.length; n += 7)
    assert.equal(readCertificate(ekCertificate.subarray(0, n)).ok, false);
});

test('a certificate with bytes after it or an unordered RDN is read, called malformed and kept as it came', () => {
  const padded = Buffer.concat([ekCertificate, Buffer.alloc(9, 0xff)]);
  assert.match(read(padded).malformed ?? '', /9 bytes after/);
  assert.deepEqual(read(padded).der, padded);
  const unordered = forgeCertificate({
    ...names,
    subject: unorderedName('ek'),
    key: rsa.publicKey,
    signer: ec.privateKey,
  });
  assert.match(read(unordered).malformed ?? '', /SET is not in order/);
  assert.deepEqual(read(unordered).der, unordered);
});

test('the key of a certificate is compared with a key, whatever the certificate calls RSA', () => {
  for (const algorithm of ['1.2.840.113549.1.1.7', '1.2.840.113549.1.1.10']) {
    const publicKeyInfo = publicKeyInfoAs(rsa.publicKey, algorithm);
    const certificate = read(forgeCertificate({ ...names, key: rsa.publicKey, publicKeyInfo, signer: ec.privateKey }));
    assert.equal(certifiesKey(certificate, rsa.publicKey), true, algorithm);
    assert.equal(certifiesKey(certificate, ec.publicKey), false);
  }
  assert.equal(certifiesKey(read(ekCertificate), rsa.publicKey), true);
  assert.equal(certifiesKey(read(ekCertificate), generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey), false);
  const ecCertificate = read(forgeCertificate({ ...names, key: ec.publicKey, signer: rsa.privateKey }));
  assert.equal(certifiesKey(ecCertificate, ec.publicKey), true);
  assert.equal(certificateKey(ecCertificate)?.asymmetricKeyType, 'ec');
});

test('a HardwareModuleName is found and tells whether the hardware is a TPM', () => {
  const named = (type: string) =>
    read(
      forgeCertificate({
        ...names,
        key: ec.publicKey,
        signer: ec.privateKey,
        extensions: [caExtension(), hardwareName(type, Buffer.from('serial'))],
      }),
    );
  assert.deepEqual(hardwareModuleName(named('2.23.133.1.2')), {
    type: '2.23.133.1.2',
    serialNumber: Buffer.from('serial'),
  });
  assert.equal(namesTpmHardware(named('2.23.133.1.2')), true);
  assert.equal(namesTpmHardware(named('2.23.133.1.1')), false);
  assert.equal(namesTpmHardware(read(ekCertificate)), false);
});

test('no bytes at all make the reader throw', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 64 }),
      (bytes) => typeof readCertificate(Buffer.from(bytes)).ok === 'boolean',
    ),
  );
});

test('a certificate with one byte changed never makes the reader throw', () => {
  fc.assert(
    fc.property(fc.nat(ekCertificate.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = Buffer.from(ekCertificate);
      changed[at] = (changed[at] ?? 0) ^ change;
      return typeof readCertificate(changed).ok === 'boolean';
    }),
  );
});
