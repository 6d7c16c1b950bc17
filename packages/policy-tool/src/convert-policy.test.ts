import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { computedKeyId } from '@keylime/ima/public-key';
import { folder, policyOf, runTool, writeFiles } from './tool.fixture.ts';

const D = 'a'.repeat(64);
const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey;

async function convert(
  t: import('node:test').TestContext,
  files: { readonly [name: string]: string | Buffer },
  ...args: readonly string[]
) {
  const directory = folder(t);
  writeFiles(directory, files);
  return runTool(['convert', ...args.map((arg) => arg.replace(/^@/, `${directory}/`))]);
}

test('an allowlist of lines becomes a policy, with keyrings, excludes and keys', async (t) => {
  const made = await convert(
    t,
    {
      allow: `${D} /usr/bin/a\n${D} %keyring:.ima\nnothing\n`,
      excludes: '/tmp/.*\n# a comment\n',
      key: key.export({ format: 'pem', type: 'spki' }),
    },
    ...['-a', '@allow', '-e', '@excludes', '--verification-key', '@key'],
  );
  assert.equal(made.code, 0, made.stderr);
  const { digests, keyrings, excludes, 'verification-keys': keys } = policyOf(made);
  assert.deepEqual([digests, keyrings, excludes], [{ '/usr/bin/a': [D] }, { '.ima': [D] }, ['/tmp/.*']]);
  assert.deepEqual(JSON.parse(keys).keyids, [computedKeyId(key)]);
  assert.match(made.stderr, /Skipped 1 lines that are no digest and path/);
});

test('an allowlist of JSON and a policy of an older version become policies', async (t) => {
  const json = await convert(t, { allow: JSON.stringify({ hashes: { '/x': [D] } }) }, '-a', '@allow');
  assert.deepEqual(policyOf(json).digests, { '/x': [D] });
  const old = await convert(t, { old: JSON.stringify({ digests: { '/x': [D] } }) }, '-r', '@old');
  assert.deepEqual(JSON.parse(old.stdout).meta, { version: 1, generator: 2, timestamp: '2026-02-03 10:11:12.345000' });
});

for (const [what, files, args, message] of [
  ['what is neither', { a: '{}' }, ['-a', '@a'], /neither 'hashes' nor lines/],
  ['a policy as an allowlist', { a: '{"digests": {}}' }, ['-a', '@a'], /is a runtime policy already/],
  [
    'a key that is none',
    { a: `${D} /x\n`, k: 'x' },
    ['-a', '@a', '--verification-key', '@k'],
    /key .*k cannot check signatures of files: it is neither/,
  ],
  ['an exclude that cannot be used', { a: `${D} /x\n`, e: '(\n' }, ['-a', '@a', '-e', '@e'], /cannot be converted/],
] as const) {
  test(`refused: ${what}`, async (t) => {
    const { code, stdout, stderr } = await convert(t, files, ...args);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}
