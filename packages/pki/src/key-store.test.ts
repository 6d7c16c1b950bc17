import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { test } from 'node:test';
import fc from 'fast-check';
import { decryptKeyStore, encryptKeyStore, isCertificateName, type KeyStore } from './key-store.ts';
import { PkiError } from './pki-error.ts';

const PYTHON = await readFile(new URL('../../testing/vectors/python-cv-ca/private.yml', import.meta.url), 'utf8');

const refusal = (code: string) => (error: unknown) => error instanceof PkiError && error.code === code;

test('a key store of the existing services decrypts', async () => {
  const store = await decryptKeyStore(PYTHON, 'default');
  assert.match(store.caKeyPem, /^-----BEGIN PRIVATE KEY-----/);
  assert.equal(store.lastSerial, 4);
  assert.deepEqual(store.revokedSerials, ['4']);
});

test("our text of the same key store is exactly as long as the existing services', which do not truncate the file", async () => {
  const ours = await encryptKeyStore(await decryptKeyStore(PYTHON, 'default'), 'default');
  assert.equal(ours.length, PYTHON.length);
  const shape = (text: string) => text.replaceAll(/^ {2}.*$/gm, '  …').replace(/^salt: .*$/m, 'salt');
  assert.equal(shape(ours), shape(PYTHON));
});

test('what was encrypted decrypts to the same key store, whatever the certificates are called', async () => {
  const name = fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}$/).filter(isCertificateName);
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        caKeyPem: fc.string({ minLength: 1 }),
        lastSerial: fc.integer({ min: 1 }),
        revokedSerials: fc.array(fc.bigInt({ min: 1n, max: 1n << 159n }).map(String)),
        keys: fc.array(fc.tuple(name, fc.string())).map((pairs) => new Map(pairs)),
      }),
      fc.string(),
      async (store: KeyStore, password) => {
        const back = await decryptKeyStore(await encryptKeyStore(store, password), password);
        assert.equal(back.caKeyPem, store.caKeyPem);
        assert.equal(back.lastSerial, store.lastSerial);
        assert.deepEqual(back.revokedSerials, store.revokedSerials);
        assert.deepEqual(new Map([...back.keys].sort()), new Map([...store.keys].sort()));
      },
    ),
    {
      numRuns: 15,
      examples: [
        [
          {
            caKeyPem: 'x',
            lastSerial: 1,
            revokedSerials: [],
            keys: new Map([
              ['yes', 'y'],
              ['1e3', 'n'],
              ['017', 'z'],
              ['null', ''],
              ['2026-01-01', 'd'],
            ]),
          },
          'é',
        ],
      ],
    },
  );
});

test('another password does not decrypt it', async () => {
  await assert.rejects(decryptKeyStore(PYTHON, 'Default'), refusal('wrong_password'));
});

test('a damaged key store is refused without showing what it holds', async () => {
  for (const text of [
    '',
    '[]',
    'salt: x',
    'salt: 1\npriv: 2',
    'salt: x\npriv: !!binary AAAA',
    '{',
    '&a [*a, *a]',
    '\u0000',
  ]) {
    await assert.rejects(decryptKeyStore(text, 'default'), refusal('malformed_key_store'), text);
  }
  const flipped = PYTHON.replace(/^ {2}(\S{8})(\S)/m, (_, head, one) => `  ${head}${one === 'A' ? 'B' : 'A'}`);
  await assert.rejects(decryptKeyStore(flipped, 'default'), (error: unknown) => {
    assert.ok(error instanceof PkiError);
    assert.doesNotMatch(error.message, /[A-Za-z0-9+/]{20}/);
    return error.code === 'malformed_key_store' || error.code === 'wrong_password';
  });
});
