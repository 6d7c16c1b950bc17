import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { folder, runTool, writeFiles } from './tool.fixture.ts';

const [A, B, C] = ['a', 'b', 'c'].map((digit) => digit.repeat(64)) as [string, string, string];

async function diff(t: import('node:test').TestContext, old: object, changed: object, ...args: readonly string[]) {
  const directory = folder(t);
  const policy = (members: object) => JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...members });
  writeFiles(directory, { old: policy(old), new: policy(changed) });
  return runTool(['diff', path.join(directory, 'old'), path.join(directory, 'new'), ...args]);
}

test('what a new policy allows and forbids is shown line by line, with its package', async (t) => {
  const made = await diff(
    t,
    { digests: { '/same': [A], '/changed': [A, B] }, keyrings: { '.ima': [A] }, excludes: ['/tmp/.*'] },
    {
      digests: { '/same': [A], '/changed': [B, C], '/added': [C] },
      excludes: ['/run/.*'],
      packages: { [C]: 'tool 2.0' },
      release: 1,
      ima: { ignored_keyrings: ['.evm'], log_hash_alg: 'sha256', dm_policy: null },
    },
  );
  assert.equal(made.code, 0, made.stderr);
  assert.equal(
    made.stdout,
    [
      '~ release: 0 -> 1',
      '~ log_hash_alg: "sha1" -> "sha256"',
      '- exclude /tmp/.*',
      '+ exclude /run/.*',
      '+ ignored keyring .evm',
      `- /changed ${A}`,
      `- keyrings .ima ${A}`,
      `+ /changed ${C} (tool 2.0)`,
      `+ /added ${C} (tool 2.0)`,
      '2 digests allowed, 2 no longer',
      '',
    ].join('\n'),
  );
});

test('a digest whose path the other policy excludes is no change, but a key is', async (t) => {
  const made = await diff(
    t,
    { digests: { '/tmp/x': [A], '/x': [B] }, keyrings: { '/tmp': [A] } },
    { digests: { '/x': [B] }, excludes: ['/tmp'] },
    '--json',
  );
  const { allowed, forbidden, excludes } = JSON.parse(made.stdout);
  assert.deepEqual(allowed, []);
  assert.deepEqual(forbidden, [{ member: 'keyrings', name: '/tmp', digest: A }]);
  assert.deepEqual(excludes, { added: ['/tmp'], removed: [] });
});

test('the exit code tells of a difference where that is wanted', async (t) => {
  const digests = { '/x': [A] };
  for (const [changed, args, code] of [
    [{ digests }, ['--exit-code'], 0],
    [{ digests, meta: { version: 1, generator: 2, timestamp: 'later' } }, ['--exit-code'], 0],
    [{}, [], 0],
    [{}, ['--exit-code'], 1],
    [{ digests, release: 2 }, ['--exit-code'], 1],
    [{ digests, excludes: ['/y'] }, ['--exit-code'], 1],
  ] as const) {
    assert.equal((await diff(t, { digests }, changed, ...args)).code, code, JSON.stringify(changed));
  }
});

test('names of a policy cannot steer the terminal', async (t) => {
  const made = await diff(t, {}, { digests: { '/\u001b[2J\n+ /forged': [A] }, packages: { [A]: 'x\u001b[2J' } });
  assert.ok(!made.stdout.includes('\u001b'), JSON.stringify(made.stdout));
  assert.equal(made.stdout.split('\n').length, 3);
});
