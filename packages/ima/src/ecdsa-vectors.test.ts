import assert from 'node:assert/strict';
import { createHash, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseVerificationKey } from './public-key.ts';
import { verifyDigest } from './verify-signature.ts';

type Group = {
  readonly file: string;
  readonly hash: string;
  readonly key: string;
  readonly tests: readonly (readonly [tcId: number, comment: string, valid: boolean, msg: string, sig: string])[];
};

const path = new URL('../../testing/vectors/wycheproof/ecdsa.json', import.meta.url);
const groups: readonly Group[] = JSON.parse(readFileSync(path, 'utf8'));

for (const file of new Set(groups.map((group) => group.file))) {
  test(`${file} of Project Wycheproof: valid is what it calls valid, and what node:crypto does`, () => {
    for (const { hash, key: spki, tests } of groups.filter((group) => group.file === file)) {
      const parsed = parseVerificationKey(Buffer.from(spki, 'hex'));
      assert.ok(parsed.ok);
      const { key } = parsed.value;
      for (const [tcId, comment, valid, msg, sig] of tests) {
        const [message, signature] = [Buffer.from(msg, 'hex'), Buffer.from(sig, 'hex')];
        const digest = createHash(hash).update(message).digest();
        assert.equal(verifyDigest(signature, hash, digest, key), valid, `${tcId} ${comment}`);
        assert.equal(verify(hash, message, key, signature), valid, `${tcId} ${comment} (node:crypto)`);
      }
    }
  });
}
