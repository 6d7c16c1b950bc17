import assert from 'node:assert/strict';
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { commonName, extension, forgeCertificate, oid, tlv } from '@keylime/identity/forge-certificate';
import { decodeKeyring, encodeKeyring, parseKeyring } from './keyring.ts';
import { computedKeyId, parseMeasuredKey, parseVerificationKey } from './public-key.ts';

const EXAMPLE = {
  pubkeys: [
    'MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEFOoNhXDpHbUAqVmVuhYLFNXjdynvNA/f2WtlF7KhEV7WJZjM/qx2K7fZ1l+1OHFUQMFKpTUA58J6mlG1XgtABQ==',
  ],
  keyids: [2477118363],
};

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'secp384r1' });

/** SubjectPublicKeyInfo of a point that has no coordinates. */
const infinityOn = (curve: string): Buffer =>
  tlv(0x30, tlv(0x30, oid('1.2.840.10045.2.1'), oid(curve)), tlv(3, Buffer.of(0, 0)));

/** A certificate that expired long ago, as keys in the field have. */
function certificate(subjectKeyId?: string): Buffer {
  const identifier = Buffer.from(subjectKeyId ?? '', 'hex');
  const value = Buffer.concat([Buffer.of(0x04, identifier.length), identifier]);
  return forgeCertificate({
    subject: commonName('test'),
    issuer: commonName('test'),
    key: ec.publicKey,
    signer: ec.privateKey,
    extensions: subjectKeyId === undefined ? [] : [extension('2.5.29.14', false, value)],
    notAfter: '200102000000Z',
  });
}

function keyId(bytes: Uint8Array | string): number | string {
  const parsed = parseVerificationKey(Buffer.from(bytes));
  return parsed.ok ? parsed.value.keyId : parsed.problem.kind;
}

test('the id of a key is the end of the SHA-1 of the key: the example of the reference', () => {
  const [pubkey = ''] = EXAMPLE.pubkeys;
  assert.equal(keyId(Buffer.from(pubkey, 'base64')), 2477118363);
  assert.equal(keyId(Buffer.from(pubkey, 'base64')), 0x93a5d39b);
});

test('every form of a key gives the same id', () => {
  for (const { publicKey, privateKey } of [rsa, ec]) {
    const wanted = computedKeyId(publicKey);
    for (const format of ['der', 'pem'] as const) {
      const ownForm = publicKey.asymmetricKeyType === 'rsa' ? 'pkcs1' : 'sec1';
      const forms = [
        publicKey.export({ format, type: 'spki' } as { format: 'der'; type: 'spki' }),
        privateKey.export({ format, type: 'pkcs8' } as { format: 'der'; type: 'pkcs8' }),
        privateKey.export({ format, type: ownForm } as { format: 'der'; type: 'sec1' }),
      ];
      if (ownForm === 'pkcs1')
        forms.push(publicKey.export({ format, type: 'pkcs1' } as { format: 'der'; type: 'pkcs1' }));
      for (const form of forms) assert.equal(keyId(form), wanted);
    }
  }
});

test('an expired certificate gives its key, with the end of its subject key identifier as id', () => {
  const der = certificate('0102030405060708');
  assert.equal(keyId(der), 0x05060708);
  assert.equal(
    keyId(`-----BEGIN CERTIFICATE-----\n${der.toString('base64')}\n-----END CERTIFICATE-----\n`),
    0x05060708,
  );
});

for (const [what, identifier] of [
  ['without an identifier', undefined],
  ['with an identifier that is too short', '0a0b0c'],
  ['whose identifier ends in zeros', 'ff00000000'],
] as const) {
  test(`a certificate ${what} gives its key the computed id`, () => {
    const der = certificate(identifier);
    const parsed = parseVerificationKey(der);
    assert.ok(parsed.ok);
    assert.equal(parsed.value.keyId, computedKeyId(parsed.value.key));
  });
}

test('a byte after a key makes it no key', () => {
  const spki = ec.publicKey.export({ format: 'der', type: 'spki' });
  for (const der of [spki, certificate('01020304')]) {
    assert.equal(keyId(Buffer.concat([der, Buffer.of(0)])), 'not_a_key');
    assert.deepEqual(parseMeasuredKey(Buffer.concat([der, Buffer.of(0)])), {
      ok: false,
      problem: { kind: 'not_a_key' },
    });
  }
});

test('keys of other kinds are refused by name', () => {
  const ed25519 = generateKeyPairSync('ed25519').publicKey.export({ format: 'der', type: 'spki' });
  assert.deepEqual(parseMeasuredKey(ed25519), { ok: false, problem: { kind: 'key_unsupported', keyType: 'ed25519' } });
  const p224 = generateKeyPairSync('ec', { namedCurve: 'secp224r1' }).publicKey.export({ format: 'der', type: 'spki' });
  assert.deepEqual(parseMeasuredKey(p224), {
    ok: false,
    problem: { kind: 'key_unsupported', keyType: 'ec (secp224r1)' },
  });
});

test('[MUST] the point at infinity is no key, in whatever it comes', () => {
  for (const curve of ['1.2.840.10045.3.1.7', '1.3.132.0.34', '1.3.132.0.35', '1.3.132.0.10']) {
    const info = infinityOn(curve);
    for (const extensions of [[], [extension('2.5.29.14', false, tlv(4, Buffer.alloc(20, 7)))]]) {
      const name = commonName('test');
      const { publicKey: key, privateKey: signer } = ec;
      const der = forgeCertificate({ subject: name, issuer: name, key, signer, publicKeyInfo: info, extensions });
      const problem = { kind: 'key_unsupported', keyType: 'ec (no public key)' };
      assert.deepEqual(parseMeasuredKey(der), { ok: false, problem });
      assert.deepEqual(parseVerificationKey(der), { ok: false, problem });
    }
    assert.equal(keyId(info), 'not_a_key');
    const zero = tlv(0x30, tlv(2, Buffer.of(1)), tlv(4, Buffer.alloc(32)), tlv(0xa0, oid(curve)));
    assert.notEqual(typeof keyId(zero), 'number');
  }
});

test('a private key is none that a kernel measures', () => {
  const der = ec.privateKey.export({ format: 'der', type: 'pkcs8' });
  assert.deepEqual(parseMeasuredKey(der), { ok: false, problem: { kind: 'not_a_key' } });
});

test('a keyring reads back what it writes, and JSON in a JSON text is unwrapped once', () => {
  const keys = [rsa, ec].map(({ publicKey: key }) => ({ key, keyId: computedKeyId(key) }));
  const json = encodeKeyring(keys);
  const read = decodeKeyring(json);
  assert.ok(read.ok);
  assert.deepEqual(encodeKeyring(read.value.values()), json);
  const wrapped = parseKeyring(JSON.stringify(JSON.stringify(json)));
  assert.deepEqual(wrapped.ok && [...wrapped.value.keys()], json.keyids);
});

test('an id that is missing or 0 is computed, and of two keys with one id the later counts', () => {
  const { pubkeys } = encodeKeyring([rsa, ec].map(({ publicKey: key }) => ({ key, keyId: 1 })));
  const computed = parseKeyring(JSON.stringify({ pubkeys, keyids: [0] }));
  assert.deepEqual(
    computed.ok && [...computed.value.keys()],
    [rsa, ec].map(({ publicKey }) => computedKeyId(publicKey)),
  );
  const same = parseKeyring(JSON.stringify({ pubkeys, keyids: [7, 7] }));
  assert.ok(same.ok);
  assert.equal(
    same.value.get(7)?.key.equals(createPublicKey(ec.publicKey.export({ format: 'pem', type: 'spki' }))),
    true,
  );
});

test('texts without keys are empty keyrings', () => {
  for (const text of ['', '""', 'null', '[]', '{"pubkeys": [], "keyids": []}']) {
    const keyring = parseKeyring(text);
    assert.equal(keyring.ok && keyring.value.size, 0, text);
  }
});

for (const [text, message] of [
  ['{', /not the JSON text/],
  ['{"pubkeys": ["AAAA"]}', /'keyids' must be/],
  ['{"pubkeys": "AAAA", "keyids": []}', /'pubkeys' must be/],
  ['{"pubkeys": [], "keyids": [1]}', /longer/],
  ['{"pubkeys": ["!"], "keyids": []}', /key 0 is not base64/],
  ['{"pubkeys": ["AAAA"], "keyids": [4294967296]}', /integers from 0/],
] as const) {
  test(`a keyring is refused: ${text}`, () => {
    const keyring = parseKeyring(text);
    assert.match(keyring.ok ? 'accepted' : keyring.problem.message, message);
  });
}
