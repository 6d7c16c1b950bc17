import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { test } from 'node:test';
import { parseImaLine } from '@keylime/ima/entry';
import { recordImaNg } from '@keylime/ima/record';
import { keyIdText } from '@keylime/ima/signature';
import { signingFixture } from '@keylime/ima/signing-key.fixture';
import { EMPTY_RUNTIME_POLICY_TEXT } from '@keylime/policies/runtime-policy';
import { folder, runTool, sha256, writeFiles } from './tool.fixture.ts';

const line = (name: string, content = name) => recordImaNg(name, 'sha256', Buffer.from(sha256(content), 'hex')).line;
const VIOLATION = `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /var/log/x\n`;
const BOOT = line('boot_aggregate');
const DIGESTS = { boot_aggregate: [sha256('boot_aggregate')], '/usr/bin/a': [sha256('/usr/bin/a')] };

async function check(
  t: import('node:test').TestContext,
  list: string | Buffer,
  policy: object = { digests: DIGESTS },
  ...args: readonly string[]
) {
  const directory = folder(t);
  writeFiles(directory, { policy: JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...policy }), list });
  return runTool(['check', path.join(directory, 'policy'), path.join(directory, 'list'), ...args]);
}

test('a list that the policy accepts ends with 0', async (t) => {
  const { code, stdout } = await check(t, BOOT + line('/usr/bin/a') + VIOLATION);
  assert.equal(code, 0);
  assert.equal(stdout, '3 entries, 1 violations, 0 failures\n');
});

test('every entry that would be refused is told, with what is known about it', async (t) => {
  const list = BOOT + line('/usr/bin/b', '/usr/bin/a') + line('/usr/bin/a', 'changed') + line('/usr/bin/a', 'changed');
  const packages = { [sha256('/usr/bin/a')]: 'a 1.0', [sha256('changed')]: 'a 2.0' };
  const { code, stdout } = await check(t, list, { digests: DIGESTS, packages });
  assert.equal(code, 1);
  const [unknown = '', changed = '', again = '', summary] = stdout.split('\n');
  assert.match(
    unknown,
    /^entry 1: File not found in allowlist: \/usr\/bin\/b \(.*found is of a 1\.0; .*listed for \/usr\/bin\/a\)$/,
  );
  assert.match(changed, /^entry 2: .*\/usr\/bin\/a.* \(expected [0-9a-f]{64}; of a 1\.0; found is of a 2\.0\)$/);
  assert.match(again, /^entry 3: .*first seen in entry 2\)$/);
  assert.equal(summary, '4 entries, 0 violations, 3 failures');
});

test('files are judged by the signing keys of the enrolment where it names some', async (t) => {
  const signer = signingFixture('secp256k1');
  const hex = sha256('/opt/signed');
  const fields = `ima-sig sha256:${hex} /opt/signed ${signer.sign(Buffer.from(hex, 'hex')).toString('hex')}`;
  const parsed = parseImaLine(`10 ${'1'.repeat(40)} ${fields}`);
  assert.ok(parsed.ok);
  const list = `${BOOT}10 ${createHash('sha1').update(parsed.value.templateInput).digest('hex')} ${fields}\n`;
  const unknown = await check(t, list);
  assert.match(unknown.stdout, new RegExp(`signature by key ${keyIdText(signer.keyId)}: key unknown`));
  const directory = folder(t);
  writeFiles(directory, { key: signer.publicKey.export({ format: 'der', type: 'spki' }) });
  const known = await check(t, list, undefined, '--verification-key', path.join(directory, 'key'));
  assert.equal(known.code, 0, known.stdout);
});

test('violations fail where that is the rule', async (t) => {
  const { code, stdout } = await check(t, BOOT + VIOLATION, undefined, '--violations', 'fail', '--json');
  assert.equal(code, 1);
  const { accepted, failures } = JSON.parse(stdout);
  assert.equal(accepted, false);
  assert.deepEqual(
    failures.map(({ index, eventId }: { index: number; eventId: string }) => [index, eventId]),
    [[1, 'ima.validation.tomtou']],
  );
});

for (const [what, list, message] of [
  ['that is empty', '', /boot_aggregate/],
  ['that does not begin with boot_aggregate', line('/usr/bin/a'), /boot_aggregate/],
  ['with a line that is none', `${BOOT}nothing \u001b[31m\n`, /^entry 1: /],
  ['with a NUL and bytes that are not UTF-8', Buffer.from(`${BOOT}10 \0\xff\n`, 'latin1'), /^entry 1: /],
  [
    'whose template hash is another',
    BOOT + line('/usr/bin/a').replace(/^10 ..../, '10 0000'),
    /^entry 1: Template hash/,
  ],
] as const) {
  test(`a list ${what} is refused`, async (t) => {
    const { code, stdout } = await check(t, list);
    assert.equal(code, 1);
    assert.match(stdout, message);
    assert.ok(!stdout.includes('\u001b'));
  });
}

test('a policy that is none and a list that is not there are failures of the command', async (t) => {
  const broken = await check(t, BOOT, { release: 'x' });
  assert.equal(broken.code, 1);
  assert.match(broken.stderr, /is not a valid runtime policy/);
  const gone = await runTool(['check', path.join(folder(t), 'policy')]);
  assert.equal(gone.code, 1);
  assert.match(gone.stderr, /there is no such file/);
});

test('a summary counts what is in a policy', async (t) => {
  const directory = folder(t);
  const members = { digests: DIGESTS, packages: { [sha256('x')]: 'x 1' }, excludes: ['/tmp/.*'] };
  writeFiles(directory, { policy: JSON.stringify({ ...JSON.parse(EMPTY_RUNTIME_POLICY_TEXT), ...members }) });
  const file = path.join(directory, 'policy');
  const { files, digests, digest_algorithms, excludes, packages, signed } = JSON.parse(
    (await runTool(['show', file, '--json'])).stdout,
  );
  assert.deepEqual([files, digests, digest_algorithms, packages, signed], [2, 2, ['sha256'], 1, false]);
  assert.deepEqual(excludes, ['/tmp/.*']);
  assert.match((await runTool(['show', file])).stdout, /^files +2$/m);
});
