import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DIGEST_SIZES, digest, digestHex, type HashAlgorithm } from './digest.ts';

test('a digest in hex is the digest, in every algorithm', () => {
  const data = Buffer.from('evidence');
  for (const algorithm of Object.keys(DIGEST_SIZES) as HashAlgorithm[]) {
    assert.equal(digestHex(algorithm, data), digest(algorithm, data).toString('hex'));
  }
});
