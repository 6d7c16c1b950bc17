import assert from 'node:assert/strict';
import { test } from 'node:test';
import { signingFixture } from '@keylime/ima/signing-key.fixture';
import { appraiseLines, BOOT_LINE, bufferLine, kindsOf, lineOf, pcrAfter, policyWith, sha256 } from './list.fixture.ts';
import type { RuntimeIntegrity, RuntimeIntegrityEvidence } from './runtime-integrity.ts';

const signer = signingFixture('P-256');
const certificate = signer.publicKey.export({ format: 'der', type: 'spki' });
const policy = policyWith({
  keyrings: { '.ima': [sha256(certificate)] },
  digests: Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`/usr/bin/listed${i}`, [sha256(`listed${i}`)]])),
});

const signedLine = (name: string) => {
  const digest = sha256(name);
  return lineOf(`ima-sig sha256:${digest} /opt/${name} ${signer.sign(Buffer.from(digest, 'hex')).toString('hex')}`);
};
const listedLine = (i: number) => lineOf(`ima-sig sha256:${sha256(`listed${i}`)} /usr/bin/listed${i} `);

/** A machine that loads a key and then runs files of which some are listed and some are signed. */
const LINES = [
  BOOT_LINE,
  signedLine('early'),
  bufferLine('.ima', certificate),
  ...Array.from({ length: 40 }, (_, i) => (i % 3 === 0 ? signedLine(`signed${i}`) : listedLine(i))),
];
const GOOD = [BOOT_LINE, ...LINES.slice(2)];

/** Time for so many entries that take more than a look-up. */
function timeFor(entries: number): () => boolean {
  let left = entries;
  return () => left-- > 0;
}

/** Rounds with time for so many entries each, until none is left unjudged; what every one of them gave. */
function judgeInRounds(lines: readonly string[], entries: number, more: Partial<RuntimeIntegrityEvidence> = {}) {
  const rounds: RuntimeIntegrity[] = [];
  for (let last: RuntimeIntegrity | undefined; ; ) {
    const { nextEntry: firstEntry = 0, runningPcr, quoteProgress, learnedKeyrings } = last ?? {};
    const next: RuntimeIntegrity = appraiseLines(lines.slice(firstEntry), {
      policy,
      firstEntry,
      ...(last && { runningPcr, quoteProgress, learnedKeyrings }),
      quotedPcr: pcrAfter(lines),
      hasTime: timeFor(entries),
      ...more,
    });
    rounds.push(next);
    if (next.unjudgedEntries === 0 || next.failures.length > 0) return rounds;
    assert.ok(next.nextEntry > firstEntry, 'every round gets on');
    last = next;
  }
}

for (const entries of [0, 1, 5]) {
  test(`with time for ${entries} entries at once a list comes to the same as in one go`, () => {
    const whole = appraiseLines(GOOD, { policy });
    assert.deepEqual(kindsOf(whole), []);
    const rounds = judgeInRounds(GOOD, entries);
    assert.ok(rounds.length > 2, `${rounds.length} rounds`);
    for (const round of rounds.slice(0, -1)) {
      assert.deepEqual(round.failures, []);
      assert.deepEqual(round.runningPcr, pcrAfter(GOOD.slice(0, round.nextEntry)));
      assert.equal(round.nextEntry + round.unjudgedEntries, GOOD.length);
    }
    const last = rounds.at(-1);
    assert.deepEqual(
      [last?.nextEntry, last?.runningPcr, last?.learnedKeyrings],
      [whole.nextEntry, whole.runningPcr, whole.learnedKeyrings],
    );
  });
}

test('an entry that is not reached has not passed, and fails in the round that reaches it', () => {
  const lines = [...GOOD, lineOf(`ima-ng sha256:${sha256('x')} /opt/unknown`)];
  const rounds = judgeInRounds(lines, 3);
  assert.ok(rounds.slice(0, -1).every(({ unjudgedEntries }) => unjudgedEntries > 0));
  assert.deepEqual(kindsOf(rounds.at(-1) as RuntimeIntegrity), [`${lines.length - 1} ima_path_unknown`]);
});

test('a signature before its key fails in whatever rounds the list is judged', () => {
  assert.deepEqual(kindsOf(judgeInRounds(LINES, 0).at(-1) as RuntimeIntegrity), ['1 ima_path_unknown']);
});

test('a list that does not lead to the quoted value fails at once, judged or not', () => {
  const result = appraiseLines(GOOD, { policy, quotedPcr: Buffer.alloc(32, 1), hasTime: () => false });
  assert.deepEqual(kindsOf(result), ['ima_pcr_mismatch']);
});

test('entries beyond the quote have to be certified in the next round, those that wait to be judged counted in', () => {
  const [certified, later] = [GOOD.length - 5, 5];
  const first = appraiseLines(GOOD, { policy, quotedPcr: pcrAfter(GOOD.slice(0, certified)), hasTime: timeFor(2) });
  assert.deepEqual([first.failures, first.uncertifiedEntries], [[], later]);
  assert.equal(first.nextEntry + first.unjudgedEntries, certified);
  const rest = GOOD.slice(first.nextEntry);
  const { nextEntry: firstEntry, runningPcr, quoteProgress, learnedKeyrings } = first;
  const next = (quoted: number) => {
    const more = { policy, firstEntry, runningPcr, quoteProgress, learnedKeyrings };
    return kindsOf(appraiseLines([...rest, listedLine(1)], { ...more, quotedPcr: pcrAfter(GOOD.slice(0, quoted)) }));
  };
  assert.deepEqual(next(GOOD.length), []);
  assert.deepEqual(next(certified), ['ima_quote_progress'], 'the PCR stood still while the list grew');
});

test('lines that no kernel made are told at once, with their index, for they are why the list leads elsewhere', () => {
  const lines = GOOD.with(20, 'nonsense').with(30, GOOD[30]?.replace(/ \/\w+\//, ' /tmp/') ?? '');
  const quotedPcr = pcrAfter(GOOD);
  const result = appraiseLines(lines, { policy, quotedPcr, hasTime: () => false });
  const told = ['20 ima_entry_malformed', '30 ima_template_hash_mismatch', 'ima_pcr_mismatch'];
  assert.deepEqual(kindsOf(result), told);
});
