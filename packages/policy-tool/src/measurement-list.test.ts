import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { folder, policyOf, runTool, writeFiles } from './tool.fixture.ts';

const vectorFile = (name: string) => path.join(import.meta.dirname, '../../testing/vectors/debian12-uefi-vm', name);
const BINARY = readFileSync(vectorFile('ima.bin'));
const RECORDS = 365;

/** The policy of a list, in a file. */
async function policyOfList(t: TestContext, list: string): Promise<string> {
  const file = path.join(folder(t), 'policy');
  const { code, stderr } = await runTool(['create', 'runtime', '-m', list, '-o', file]);
  assert.equal(code, 0, stderr);
  return file;
}

test('a binary list gives the policy that its ASCII list gives', async (t) => {
  const binary = policyOf({
    code: 0,
    stderr: '',
    stdout: readFileSync(await policyOfList(t, vectorFile('ima.bin')), 'utf8'),
  });
  const ascii = readFileSync(vectorFile('ima.txt'), 'latin1').split('\n').slice(0, RECORDS);
  const directory = folder(t);
  writeFiles(directory, { list: `${ascii.join('\n')}\n` });
  const fromAscii = await policyOfList(t, path.join(directory, 'list'));
  assert.deepEqual(binary.digests, policyOf({ code: 0, stderr: '', stdout: readFileSync(fromAscii, 'utf8') }).digests);
  assert.ok(Object.keys(binary.digests).length > 300);
});

test('a binary list is judged as its ASCII list is, with the index of each entry', async (t) => {
  const policy = await policyOfList(t, vectorFile('ima.bin'));
  const good = await runTool(['check', policy, vectorFile('ima.bin')]);
  assert.deepEqual([good.code, good.stdout.split('\n').at(-2)], [0, `${RECORDS} entries, 0 violations, 0 failures`]);
  const changed = Buffer.from(BINARY);
  const name = changed.indexOf('/conf/arch.conf');
  changed.write('X', name + 1, 'latin1');
  const directory = folder(t);
  writeFiles(directory, { list: changed });
  const bad = await runTool(['check', policy, path.join(directory, 'list')]);
  assert.equal(bad.code, 1);
  assert.match(bad.stdout, /^entry 3: Template hash of entry 3 is not that of its fields/);
});

for (const [what, size, message] of [
  ['cut in its last record', BINARY.length - 1, /is damaged: entry\[364\] at byte \d+: \d+ bytes wanted/],
  ['cut in its second record', 200, /is damaged: entry\[1\] at byte \d+/],
] as const) {
  for (const command of [
    ['create', 'runtime', '-m'],
    ['check', 'policy'],
  ]) {
    test(`${command[0]}: a binary list ${what} is refused with the record and the byte`, async (t) => {
      const directory = folder(t);
      writeFiles(directory, { list: BINARY.subarray(0, size) });
      const policy = await policyOfList(t, vectorFile('ima.bin'));
      const args = command.map((word) => (word === 'policy' ? policy : word));
      const { code, stdout, stderr } = await runTool([...args, path.join(directory, 'list')]);
      assert.deepEqual([code, stdout], [1, '']);
      assert.match(stderr, message);
    });
  }
}

test('a list of a big-endian kernel makes a policy, and is not judged', async (t) => {
  const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
  const name = Buffer.from('boot_aggregate\0');
  const u32 = (value: number) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32BE(value);
    return bytes;
  };
  const field = (data: Buffer) => Buffer.concat([u32(data.length), data]);
  const fields = Buffer.concat([field(Buffer.concat([Buffer.from('sha256:\0'), Buffer.from(D, 'hex')])), field(name)]);
  const list = Buffer.concat([u32(10), Buffer.alloc(20, 1), field(Buffer.from('ima-ng')), field(fields)]);
  const directory = folder(t);
  writeFiles(directory, { list });
  const policy = await policyOfList(t, path.join(directory, 'list'));
  assert.deepEqual(JSON.parse(readFileSync(policy, 'utf8')).digests, { boot_aggregate: [D] });
  const { code, stderr } = await runTool(['check', policy, path.join(directory, 'list')]);
  assert.equal(code, 1);
  assert.match(stderr, /of a big-endian kernel.*ima_canonical_fmt/);
});
