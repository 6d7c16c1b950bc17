import assert from 'node:assert/strict';
import { createHash, createPublicKey } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { GENERATED_UUID_FILE, hashEk, normalUuid, resolveAgentId } from './agent-name.ts';

const keylimeDir = mkdtempSync(join(tmpdir(), 'keylime-name-'));
after(() => rmSync(keylimeDir, { recursive: true }));

const ekHash = 'a'.repeat(64);
const uuid = 'd432fbb3-d2f1-4a97-9ef7-75bd81c00000';

test('hash_ek is the hash of the EK as PEM with 64 columns and a newline at the end', () => {
  const pem = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt
6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==
-----END PUBLIC KEY-----
`;
  assert.equal(hashEk(createPublicKey(pem)), createHash('sha256').update(pem).digest('hex'));
});

test('hash_ek stands for the hash of the EK', async () => {
  assert.equal(await resolveAgentId({ uuid: 'hash_ek', ekHash, keylimeDir }), ekHash);
});

test('a UUID is taken in every common notation', async () => {
  const bare = uuid.replaceAll('-', '');
  for (const text of [uuid, uuid.toUpperCase(), bare, `{${uuid}}`, `urn:uuid:${uuid}`]) {
    assert.equal(await resolveAgentId({ uuid: text, ekHash, keylimeDir }), uuid);
  }
});

test('a malformed uuid is refused, not replaced by a random one', async () => {
  for (const text of ['', 'dmidecode', 'hostname', `${uuid}0`, uuid.slice(1), 'HASH_EK', `{${uuid}`]) {
    await assert.rejects(resolveAgentId({ uuid: text, ekHash, keylimeDir }), { code: 'agent_id_malformed' });
  }
});

test('a generated id is the same at the next start and its file is private', async () => {
  const first = await resolveAgentId({ uuid: 'generate', ekHash, keylimeDir });
  assert.equal(normalUuid(first), first);
  assert.equal(await resolveAgentId({ uuid: 'generate', ekHash, keylimeDir }), first);
  const path = join(keylimeDir, GENERATED_UUID_FILE);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  writeFileSync(path, 'not a uuid');
  await assert.rejects(resolveAgentId({ uuid: 'generate', ekHash, keylimeDir }), { code: 'agent_id_malformed' });
});
