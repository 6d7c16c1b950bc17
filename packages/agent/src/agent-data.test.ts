import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AgentData, formatAgentData, parseAgentData } from './agent-data.ts';

const data: AgentData = {
  akHashAlg: 'sha256',
  akSignAlg: 'rsassa',
  akPublic: Buffer.of(0, 1, 0, 11),
  akPrivate: Buffer.of(0, 32, 171),
  ekHash: 'a316',
};

// What serde_json's pretty printer makes of it; only the order of members and the white space are at stake.
const text = `{
  "ak_hash_alg": "Sha256",
  "ak_sign_alg": "RsaSsa",
  "ak_public": [
    0,
    1,
    0,
    11
  ],
  "ak_private": [
    0,
    32,
    171
  ],
  "ek_hash": [
    97,
    51,
    49,
    54
  ]
}`;

test('the file is written byte for byte as the existing agent writes it', () => {
  assert.equal(formatAgentData(data), text);
});

test('the file of the existing agent is read, in any layout and with members that nobody knows', () => {
  assert.deepEqual(parseAgentData(text), { ok: true, value: data });
  const compact = JSON.stringify({ ...JSON.parse(text), more: 1 });
  assert.deepEqual(parseAgentData(compact), { ok: true, value: data });
});

test('every part that is missing or wrong is named', () => {
  for (const name of ['ak_hash_alg', 'ak_sign_alg', 'ak_public', 'ak_private', 'ek_hash']) {
    for (const value of [undefined, null, 7, 'MD5', 'toString', [256], [-1], [0.5], ['a'], {}]) {
      const parsed = parseAgentData(JSON.stringify({ ...JSON.parse(text), [name]: value }));
      assert.match(parsed.ok ? '' : parsed.problem, new RegExp(`^${name} `));
    }
  }
  assert.deepEqual(parseAgentData(text.slice(0, -5)), { ok: false, problem: 'not a JSON object' });
});

test('any bytes come back, and any text is read or refused without an exception', () => {
  const bytes = fc.uint8Array().map((array) => Buffer.from(array));
  fc.assert(
    fc.property(bytes, bytes, (akPublic, akPrivate) => {
      const one = { ...data, akPublic, akPrivate };
      assert.deepEqual(parseAgentData(formatAgentData(one)), { ok: true, value: one });
    }),
  );
  fc.assert(fc.property(fc.oneof(fc.string(), fc.json()), (any) => typeof parseAgentData(any).ok === 'boolean'));
});
