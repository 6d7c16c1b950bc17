import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { fileURLToPath } from 'node:url';
import { decryptPayload } from '@keylime/payload/encryption';
import { parseKeyFile } from './key-file.ts';

const vector = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../../testing/vectors/python-ca/${name}`, import.meta.url)), 'latin1');

test('what the existing keylime_userdata_encrypt wrote is read and opened', () => {
  const { k } = parseKeyFile(vector('content_keys.txt'), 'content_keys.txt');
  const opened = decryptPayload(k, Buffer.from(vector('content_payload.txt'), 'base64'));
  assert.equal(opened.ok && opened.value.toString('latin1'), vector('plain.txt'));
});
