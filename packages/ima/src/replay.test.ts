import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { type ImaLine, type ImaListPart, replayImaList } from './replay.ts';

const vector = (name: string, machine = 'debian12-uefi-vm') =>
  readFileSync(new URL(`../../testing/vectors/${machine}/${name}`, import.meta.url));
const pcrAfterBoot = (bank: string, machine?: string): Buffer =>
  Buffer.from(/^10 ([0-9A-F]+)$/m.exec(vector(`pcrs-${bank}.txt`, machine).toString())?.[1] ?? '', 'hex');

const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
const E1 = `10 ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086 ima-ng sha256:${D} /opt/demo/hello`;
const E2 = `10 0f731ebbe184f4f1d40af8be23eeda4cd96dbc9d ima-sig sha256:${D} /opt/demo/hello `;
const E3 = `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /opt/demo/log`;
const E4 =
  '10 96ad404b4a70aa6232bd4609825e74cf8f0f76f4 ima-buf sha256:88115f63f71eb6dedc4baa6c721328aed8c725b85a5e3ab3ba4b80082b7b8724 kernel_info 6b65726e656c5f76657273696f6e3d362e393b';
const AFTER_E1 = 'cc6ab0d19a483aa868e856b8b1f01e0ed1f718406bd6b871a41edd014d51bcac';
const AFTER_E4 = '8395422899271014669c7c8804517a4e9d6222bd1a524d167728bd017c92e377';

function part(list: string | Buffer, quoted: string | Buffer, more: Partial<ImaListPart> = {}): ImaListPart {
  const bank: HashAlgorithm = more.bank ?? 'sha256';
  return {
    list: typeof list === 'string' ? Buffer.from(list, 'latin1') : list,
    firstIndex: 0,
    bank,
    runningPcr: new Uint8Array(digestSize(bank)),
    quotedPcr: typeof quoted === 'string' ? Buffer.from(quoted, 'hex') : quoted,
    logHashAlgorithm: 'sha1',
    ...more,
  };
}

function replayed(input: ImaListPart) {
  const lines: ImaLine[] = [];
  const steps = replayImaList(input);
  let step = steps.next();
  for (; !step.done; step = steps.next()) lines.push(step.value);
  const { runningPcr, ...replay } = step.value;
  const wrong = lines.filter(
    ({ parsed, computedHash, violation }) => !parsed.ok || (!violation && parsed.value.templateHash !== computedHash),
  );
  return { ...replay, running: runningPcr.toString('hex'), lines, wrong: wrong.map(({ index }) => index) };
}

// The files were read one after the other while the machine went on; its kernel had no SHA-384 of its own.
for (const [bank, extendMode, covered] of [
  ['sha1', 'bank', 356],
  ['sha256', 'bank', 361],
  ['sha384', 'padded_sha1', 363],
] as const) {
  test(`the list of a real machine reaches its PCR 10 of bank ${bank} after ${covered} of 365 entries`, () => {
    const quoted = pcrAfterBoot(bank);
    const { entryCount, certifiedCount, wrong, running, lines } = replayed(
      part(vector('ima.txt'), quoted, { bank, extendMode }),
    );
    assert.deepEqual([entryCount, certifiedCount, lines.length, wrong], [365, covered, covered, []]);
    assert.equal(running, quoted.toString('hex'));
  });
}

test('the list of a machine that booted with Secure Boot reaches its PCR 10 after 353 of 354 entries, every hash right', () => {
  const machine = 'debian12-secureboot-vm';
  const { entryCount, certifiedCount, wrong } = replayed(
    part(vector('ima.txt', machine), pcrAfterBoot('sha256', machine)),
  );
  assert.deepEqual({ entryCount, certifiedCount, wrong }, { entryCount: 354, certifiedCount: 353, wrong: [] });
});

for (const [i, bank] of (['sha1', 'sha256'] as const).entries()) {
  test(`the list of a tampered machine reaches its PCR 10 of bank ${bank} after all 369 entries, every hash right`, () => {
    const quoted = vector('pcr10-after-evil.txt').toString().trim().split('\n')[i]?.split(' ')[1] ?? '';
    const { entryCount, certifiedCount, wrong } = replayed(part(vector('ima-after-evil.txt'), quoted, { bank }));
    assert.deepEqual({ entryCount, certifiedCount, wrong }, { entryCount: 369, certifiedCount: 369, wrong: [] });
  });
}

test('a part of the list goes on from the running value of the part before', () => {
  const text = vector('ima-after-evil.txt').toString('latin1');
  const lines = text.split('\n');
  const quoted = vector('pcr10-after-evil.txt').toString().trim().split('\n')[1]?.split(' ')[1] ?? '';
  const rest = replayed(
    part(lines.slice(361).join('\n'), quoted, { firstIndex: 361, runningPcr: pcrAfterBoot('sha256') }),
  );
  assert.deepEqual(
    { entries: rest.entryCount, certified: rest.certifiedCount, first: rest.lines[0]?.index },
    { entries: 8, certified: 8, first: 361 },
  );
});

for (const [bank, after] of [
  ['sha1', '733ee76d6b3482591a09649e2d1b6d24f034b8bc'],
  ['sha256', AFTER_E4],
  ['sha384', '6108ba3fbdee9cd1400a13bb4017819b6bd860c691a3af4e21dfebb1dde2574d3c6e215d05de5769ccea328baa254f8f'],
  // These two were worked out with another implementation of the hashes.
  [
    'sha512',
    'd34ccbbc17d4f06e81bcf298a898a2e2ab0d516a84700bcf6ab8349230d6d183361b4edc8453bed768827225f9e80324ab9d010b4b26c1799a31b83afbef0209',
  ],
  ['sm3_256', 'fb8ae826fabee6d5cdc79e1a095479ff16e8bdfadcba4ee7cd5172528ad843d8'],
] as const) {
  test(`known-answer entries E1 to E4 give their PCR 10 in bank ${bank}, the violation extending ones`, () => {
    const { certifiedCount, running, lines } = replayed(part([E1, E2, E3, E4].join('\n'), after, { bank }));
    assert.equal(certifiedCount, 4);
    assert.equal(running, after);
    assert.deepEqual(
      lines.map(({ violation }) => violation),
      [false, false, true, false],
    );
  });
}

test('kernels that extend every bank with padded SHA-1 are replayed only where this was asked for', () => {
  const padded = 'b6796fff70c3b32f3a5d5c1c003c66a5b149be3c49265748805a5a6af9d88014';
  const list = [E1, E2, E3, E4].join('\n');
  assert.equal(replayed(part(list, padded)).certifiedCount, undefined);
  assert.equal(replayed(part(list, padded, { extendMode: 'padded_sha1' })).certifiedCount, 4);
});

test('the first match counts and what follows is counted but not shown', () => {
  const replay = replayed(part([E1, E2, 'nonsense', E4].join('\n'), AFTER_E1));
  assert.deepEqual(
    [replay.entryCount, replay.certifiedCount, replay.lines.length, replay.running],
    [4, 1, 1, AFTER_E1],
  );
});

test('a running value that is the quoted one certifies no new entry', () => {
  const replay = replayed(
    part([E2, E3].join('\n'), AFTER_E1, { firstIndex: 1, runningPcr: Buffer.from(AFTER_E1, 'hex') }),
  );
  assert.deepEqual([replay.entryCount, replay.certifiedCount, replay.lines.length], [2, 0, 0]);
  assert.equal(replayed(part('', '00'.repeat(32))).certifiedCount, 0);
});

test('a quoted value that is never met leaves every entry uncertified', () => {
  const replay = replayed(part([E1, E2, E3, E4].join('\n'), 'aa'.repeat(32)));
  assert.deepEqual(
    [replay.entryCount, replay.certifiedCount, replay.lines.length, replay.running],
    [4, undefined, 4, AFTER_E4],
  );
});

test('blank lines do not count, and a line that is no entry is reported where it is while the rest goes on', () => {
  const replay = replayed(part(`\n\n${E1}\n\n\xff\x00 \n${E2}\n${E3}\n${E4}\n\n`, AFTER_E4, { firstIndex: 7 }));
  assert.deepEqual([replay.entryCount, replay.certifiedCount], [5, 5]);
  assert.deepEqual(
    replay.lines.map(({ index, parsed }) => [index, parsed.ok]),
    [
      [7, true],
      [8, false],
      [9, true],
      [10, true],
      [11, true],
    ],
  );
});

test('an entry with a column of ones is a wrong hash, though its fields lead to the quoted value', () => {
  const forged = E1.replace(/ [0-9a-f]{40} /, ` ${'f'.repeat(40)} `);
  const replay = replayed(part(forged, AFTER_E1));
  assert.deepEqual([replay.certifiedCount, replay.wrong, replay.lines[0]?.violation], [1, [0], false]);
});

test('zeros of another length than the column has are a wrong hash, not a violation', () => {
  const replay = replayed(part(E3.replace('0'.repeat(40), '0'.repeat(64)), 'aa'.repeat(32)));
  assert.deepEqual([replay.wrong, replay.lines[0]?.violation], [[0], false]);
});
