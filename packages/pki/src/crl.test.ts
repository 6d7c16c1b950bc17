import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DecodeError } from '@keylime/core/codec';
import fc from 'fast-check';
import { DEFAULT_CA_OPTIONS } from './ca-options.ts';
import { decodeCrl, REVOCATION_REASONS } from './crl.ts';
import { issueCaCertificate, issueCrl } from './issue.ts';
import { generateP256Key } from './private-key.ts';
import * as x509 from './x509.ts';

const key = await generateP256Key();
const now = new Date('2026-11-24T10:20:30Z');
const ca = await issueCaCertificate(key, DEFAULT_CA_OPTIONS, now);
const issuer = { certificate: new (await import('node:crypto')).X509Certificate(Buffer.from(ca.rawData)), key };
const nextUpdate = new Date('2055-01-02T03:04:05Z');

test('what is issued is read, as the X.509 library reads it', async () => {
  const revoked = [
    { serial: '2', revokedAt: new Date('2026-01-02T03:04:05Z') },
    { serial: '128', revokedAt: now, reason: REVOCATION_REASONS.keyCompromise },
    { serial: '1208925819614629174706175', revokedAt: now, reason: REVOCATION_REASONS.privilegeWithdrawn },
  ];
  const issued = await issueCrl({ issuer, revoked, number: 300n, now, nextUpdate });
  const crl = decodeCrl(Buffer.from(issued.rawData));
  const anHourAgo = new Date(now.getTime() - 3_600_000);
  assert.deepEqual([crl.thisUpdate, crl.nextUpdate, crl.number], [anHourAgo, nextUpdate, 300n]);
  assert.deepEqual(
    crl.revoked.map(({ serial, revokedAt, reason }) => ({ serial, revokedAt, ...(reason && { reason }) })),
    revoked,
  );
  assert.deepEqual(
    new x509.X509Crl(issued.rawData).entries.map(({ serialNumber, reason }) => [BigInt(`0x${serialNumber}`), reason]),
    crl.revoked.map(({ serial, reason }) => [BigInt(serial), reason]),
  );
});

test('a CRL that lists nothing is read', async () => {
  const issued = await issueCrl({ issuer, revoked: [], number: 1n, now, nextUpdate });
  assert.deepEqual(decodeCrl(Buffer.from(issued.rawData)).revoked, []);
});

test('bytes that are no CRL are refused as malformed, whatever they are', async () => {
  const issued = Buffer.from(
    (await issueCrl({ issuer, revoked: [{ serial: '2', revokedAt: now }], number: 1n, now, nextUpdate })).rawData,
  );
  const readsOrRefuses = (bytes: Buffer) => {
    try {
      decodeCrl(bytes);
    } catch (error) {
      assert(error instanceof DecodeError, String(error));
    }
  };
  for (let size = 0; size < issued.length; size++) {
    assert.throws(() => decodeCrl(issued.subarray(0, size)), DecodeError);
  }
  fc.assert(
    fc.property(fc.nat(issued.length - 1), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const changed = Buffer.from(issued);
      changed[at] = byte;
      readsOrRefuses(changed);
    }),
  );
  fc.assert(fc.property(fc.uint8Array(), (bytes) => readsOrRefuses(Buffer.from(bytes))));
});
