import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { folder, runTool, writeFiles } from './tool.fixture.ts';

const vectorFile = (name: string) => path.join(import.meta.dirname, '../../testing/vectors/debian12-uefi-vm', name);
const AGGREGATE = 'ca3a8787cc3c13695276f4ee7f8af76ec537c2a0ad10446e8e2ca644bbf034b0';
const PCRS384 = readFileSync(vectorFile('pcrs-sha384.txt'), 'latin1');
const PCRS = readFileSync(vectorFile('pcrs-sha256.txt'), 'latin1');

/** Judges the list of the machine by a policy that names no boot aggregate, with these options. */
async function check(t: TestContext, options: readonly string[], files: { readonly [name: string]: string } = {}) {
  const directory = folder(t);
  writeFiles(directory, files);
  const list = vectorFile('ima.txt');
  const { digests, ...policy } = JSON.parse((await runTool(['create', 'runtime', '-m', list])).stdout);
  delete digests.boot_aggregate;
  writeFiles(directory, { policy: JSON.stringify({ ...policy, digests }) });
  const args = options.map((option) => (Object.hasOwn(files, option) ? path.join(directory, option) : option));
  return runTool(['check', path.join(directory, 'policy'), list, ...args]);
}

test('without anything to judge the boot aggregate by, check says that it did not', async (t) => {
  const { code, stdout } = await check(t, []);
  assert.equal(code, 0, stdout);
  assert.match(stdout, /^boot_aggregate was not judged: .*--pcrs, --event-log or --boot-aggregate$/m);
  const json = JSON.parse((await check(t, ['--json'])).stdout);
  assert.deepEqual([json.accepted, json.bootAggregateJudged], [true, false]);
});

/** As tpm2_pcrread prints them. */
const printed = (text: string) =>
  `  sha256:\n${text.replace(/^(\d+) ([0-9A-F]+)$/gm, (_, pcr: string, value: string) => `    ${pcr.padEnd(2)}: 0x${value}`)}`;

for (const [what, options, files] of [
  ['the digest itself', ['--boot-aggregate', AGGREGATE], {}],
  ['PCRs in lines', ['--pcrs', vectorFile('pcrs-sha256.txt')], {}],
  ['PCRs as tpm2_pcrread prints them', ['--pcrs', 'pcrs'], { pcrs: printed(PCRS) }],
  [
    'PCRs beside those of a bank that is not known',
    ['--pcrs', 'pcrs'],
    { pcrs: `${printed(PCRS)}\n${printed(PCRS.replace(/ ..../g, ' 0000')).replace('sha256', 'sha3_256')}` },
  ],
  [
    'PCRs beside those of another bank',
    ['--pcrs', 'pcrs'],
    { pcrs: `${printed(PCRS384).replace('sha256', 'sha384')}\n${printed(PCRS)}` },
  ],
  ['the boot event log', ['--event-log', vectorFile('bios.bin')], {}],
] as const) {
  test(`the boot aggregate of a machine is judged by ${what}`, async (t) => {
    const { code, stdout } = await check(t, options, files);
    assert.equal(code, 0, stdout);
    assert.doesNotMatch(stdout, /not judged/);
  });
}

const otherPcrs = PCRS.replace(/^0 ..../m, '0 0000');
for (const [what, options, files] of [
  ['another digest', ['--boot-aggregate', '0'.repeat(64)], {}],
  ['other PCRs', ['--pcrs', 'pcrs'], { pcrs: otherPcrs }],
  ['PCRs of another bank', ['--pcrs', vectorFile('pcrs-sha384.txt')], {}],
] as const) {
  test(`a boot aggregate that ${what} do not give is a failure`, async (t) => {
    const { code, stdout } = await check(t, options, files);
    assert.equal(code, 1);
    assert.match(stdout, /^entry 0: File not found in allowlist: boot_aggregate/);
  });
}

for (const [what, options, files, message] of [
  ['a digest that is none', ['--boot-aggregate', 'xyz'], {}, /--boot-aggregate xyz: a digest in lower-case hex/],
  ['values of too few PCRs', ['--pcrs', 'pcrs'], { pcrs: PCRS.replace(/^5 .*\n/m, '') }, /has not all of PCRs 0 to 7/],
  ['a file without PCRs', ['--pcrs', 'pcrs'], { pcrs: 'x\n' }, /has not all of PCRs 0 to 7/],
  ['a log that is none', ['--event-log', 'log'], { log: 'x' }, /is no boot event log/],
] as const) {
  test(`${what} is an error`, async (t) => {
    const { code, stdout, stderr } = await check(t, options, files);
    assert.deepEqual([code === 0, stdout], [false, '']);
    assert.match(stderr, message);
  });
}
