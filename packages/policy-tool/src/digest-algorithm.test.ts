import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { type AlgorithmSource, chooseAlgorithm, guessAlgorithm } from './digest-algorithm.ts';
import { ToolError } from './tool-error.ts';

function choose(...sources: readonly AlgorithmSource[]) {
  const lines: string[] = [];
  const log = openLog({
    name: 't',
    destination: { write: (line) => lines.push(line.replace(/^.* - INFO - |\n$/g, '')) },
  });
  return { algorithm: chooseAlgorithm(sources, log), lines };
}

const algo = (algorithm: AlgorithmSource['algorithm']): AlgorithmSource => ({ name: '--algo option', algorithm });
const base = (hex: string): AlgorithmSource => ({ name: 'base policy', algorithm: guessAlgorithm(hex) });
const allowlist = (hex: string): AlgorithmSource => ({ name: 'allowlist', algorithm: guessAlgorithm(hex) });
const list = (algorithm: AlgorithmSource['algorithm']): AlgorithmSource => ({
  name: 'IMA measurement list',
  algorithm,
});

const [SHA1, SHA256, SHA384, SHA512] = [40, 64, 96, 128].map((digits) => 'a'.repeat(digits));

test('without a source it is SHA-256, with one it is that of the source', () => {
  assert.deepEqual(choose(), { algorithm: 'sha256', lines: [] });
  assert.deepEqual(choose(base(SHA1 ?? '')), {
    algorithm: 'sha1',
    lines: ["Using digest algorithm 'sha1' obtained from the base policy"],
  });
  assert.equal(choose(allowlist(SHA384 ?? '')).algorithm, 'sha384');
  assert.equal(choose(list('sha512')).algorithm, 'sha512');
});

test('64 digits are SHA-256 unless something says SM3, before or after', () => {
  assert.equal(choose(base(SHA256 ?? '')).algorithm, 'sha256');
  assert.equal(choose(algo('sha256'), base(SHA256 ?? '')).algorithm, 'sha256');
  assert.equal(choose(algo('sm3_256'), base(SHA256 ?? '')).algorithm, 'sm3_256');
  assert.deepEqual(choose(base(SHA256 ?? ''), allowlist(SHA256 ?? ''), list('sm3_256')), {
    algorithm: 'sm3_256',
    lines: [
      "Using digest algorithm 'sha256_or_sm3_256' obtained from the base policy",
      "Using digest algorithm 'sm3_256' obtained from the IMA measurement list",
    ],
  });
});

for (const [message, ...sources] of [
  [
    "The digest algorithm in the base policy does not match the previously set 'sha1' algorithm",
    algo('sha1'),
    base(SHA256 ?? ''),
  ],
  [
    "The digest algorithm in the IMA measurement list does not match the previously set 'sha512' algorithm",
    allowlist(SHA512 ?? ''),
    list('sha256'),
  ],
  [
    "The digest algorithm in the IMA measurement list does not match the previously set 'sha256_or_sm3_256' algorithm",
    base(SHA256 ?? ''),
    list('sha1'),
  ],
  ['Invalid digest algorithm found in the allowlist', algo('sha256'), allowlist('a'.repeat(41))],
  ['Invalid digest algorithm found in the base policy', base('SHA256:ab')],
  ['Invalid digest algorithm found in the IMA measurement list', list(undefined)],
] as const) {
  test(`refused: ${message}`, () => {
    assert.throws(
      () => choose(...sources),
      (error) => error instanceof ToolError && error.code === 'algorithm_mismatch' && error.message === message,
    );
  });
}
