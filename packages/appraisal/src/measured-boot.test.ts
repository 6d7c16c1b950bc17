import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bad, good } from '@keylime/core/parsed';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { replayBank } from '@keylime/event-log/replay';
import type { MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import { softwareAk } from '@keylime/testing/software-ak';
import { verifyQuote } from '@keylime/tpm/quote';
import { type BootQuestion, type BootVerdict, judgeBoot } from './boot-verdict.ts';
import { failureEvent } from './event.ts';
import { appraiseBoot, type BootExpectation, referenceChecksum } from './measured-boot.ts';

const ak = softwareAk({ encryption: 'ecc256' });
const nonce = Buffer.from('nonce');

const action = (pcr: number, text: string): EventToEncode => ({ pcr, type: 'EV_EFI_ACTION', data: Buffer.from(text) });
const logOf = (...events: readonly EventToEncode[]) => encodeEventLog(['sha256'], events);
const LOG = logOf(action(4, 'Calling EFI Application from Boot Option'), action(7, 'good'));
const bootPcrs = (log: Buffer) => replayBank(decodeEventLog(log), 'sha256');

function quoteOf(pcrs: ReadonlyMap<number, Buffer>, { mask = 0xff, resetCount = 1, hash = 'sha256' as const } = {}) {
  const text = ak.quote({ nonce, mask, pcrs, clockInfo: { resetCount } });
  const verified = verifyQuote({ text, ak: ak.public, hashAlg: hash, nonce, mask });
  assert.ok(verified.ok);
  return verified.quote;
}

/** Accepts boots whose last action in PCR 7 is the text that the reference state gives. */
const policy = {
  name: 'last-action',
  pcrs: [4, 7],
  decodeReference: (json) =>
    typeof json === 'string' ? good(json) : bad([{ path: 'last', message: 'text is wanted' }]),
  evaluate: (log, last) => {
    const events = log.events.filter(({ pcr }) => pcr === 7);
    const found = events.at(-1);
    const text = found && Buffer.from(found.digest, 'hex').toString('base64');
    return text === last ? [] : [{ reason: 'another_action', event: found?.index ?? 0, pcr: 7, expected: last }];
  },
} satisfies MeasuredBootPolicy<string>;

const lastAction = (log: Buffer) =>
  Buffer.from(decodeEventLog(log).events.at(-1)?.digests.get('sha256') ?? '', 'hex').toString('base64');

function expectation(changes: Partial<BootExpectation> = {}, last = lastAction(LOG)): BootExpectation {
  const [rules, text] = ['last-action', JSON.stringify(last)];
  const reference = { rules, text, checksum: referenceChecksum(rules, text), edition: '1' };
  return { reference, pcrs: [4, 7], evaluate: 'once', ...changes };
}

function questionOf(finding: ReturnType<typeof appraiseBoot>): BootQuestion {
  assert.ok('question' in finding, JSON.stringify(finding));
  return finding.question;
}

/** Everything that is found, the policy asked where it must be. */
function judged(log: Buffer, expected = expectation(), by: MeasuredBootPolicy = policy as MeasuredBootPolicy) {
  const quote = quoteOf(bootPcrs(log));
  const first = appraiseBoot(log.toString('base64'), quote, expected, undefined);
  if (!('question' in first)) return first;
  const verdict = judgeBoot(first.question, by);
  const second = appraiseBoot(log.toString('base64'), quote, { ...expected, verdict }, undefined);
  assert.ok(!('question' in second));
  return second;
}
const kinds = (found: { readonly failures: BootVerdict['failures'] }) => found.failures.map(({ kind }) => kind);

test('a boot is a question first, and accepted by the answer to it', () => {
  const found = judged(LOG);
  assert.deepEqual(found.failures, []);
  assert.match(found.key ?? '', /^[0-9a-f]{64}$/);
});

test('a boot that was accepted needs no policy any more, nor that its log is decoded', () => {
  const { key } = judged(LOG);
  const found = appraiseBoot(LOG.toString('base64'), quoteOf(bootPcrs(LOG)), expectation(), key);
  assert.deepEqual(found, { key, failures: [] });
});

test('a new boot is a question again, and so are another log, other PCRs, another reference state and other code', () => {
  const known = judged(LOG).key;
  const ask = (log: Buffer, quote = quoteOf(bootPcrs(LOG)), expected = expectation()) =>
    questionOf(appraiseBoot(log.toString('base64'), quote, expected, known)).key;
  const keys = [
    ask(LOG, quoteOf(bootPcrs(LOG), { resetCount: 2 })),
    ask(logOf(action(4, 'other'))),
    ask(LOG, quoteOf(new Map([[7, Buffer.alloc(32, 1)]]))),
    ask(LOG, quoteOf(bootPcrs(LOG)), expectation({}, 'other')),
    ask(LOG, quoteOf(bootPcrs(LOG)), expectation({ reference: { ...expectation().reference, edition: '2' } })),
  ];
  assert.equal(new Set([...keys, known]).size, 6);
});

test('with `always` the policy is asked at every attestation, and the answer to another question is none', () => {
  const { key } = judged(LOG);
  const always = expectation({ evaluate: 'always' });
  assert.equal(questionOf(appraiseBoot(LOG.toString('base64'), quoteOf(bootPcrs(LOG)), always, key)).key, key);
  const verdict = { key: 'of another boot', failures: [] };
  questionOf(appraiseBoot(LOG.toString('base64'), quoteOf(bootPcrs(LOG)), { ...always, verdict }, key));
});

test('[MUST] no log, PCRs that are not quoted, a policy without PCRs: none of them is a pass', () => {
  const quote = quoteOf(bootPcrs(LOG));
  const text = LOG.toString('base64');
  const found = (...[log, of, expected]: Parameters<typeof appraiseBoot>) => {
    const finding = appraiseBoot(log, of, expected, judged(LOG).key);
    assert.ok('failures' in finding);
    return kinds(finding);
  };
  assert.deepEqual(found(undefined, quote, expectation(), undefined), ['measured_boot_log_missing']);
  const without7 = quoteOf(bootPcrs(LOG), { mask: 0x7f });
  assert.deepEqual(found(text, without7, expectation(), undefined), ['measured_boot_pcr_not_quoted']);
  assert.deepEqual(found(text, quote, expectation({ pcrs: [] }), undefined), ['measured_boot_policy_failed']);
  assert.deepEqual(found(`${text}*`, quote, expectation(), undefined), ['measured_boot_log_not_base64']);
  const bomb = Buffer.alloc(17 * 1024 * 1024).toString('base64');
  assert.deepEqual(found(bomb, quote, expectation(), undefined), ['measured_boot_log_malformed']);
});

test('[MUST] a log that does not lead to the quoted PCRs fails, and its policy is not asked', () => {
  const quote = quoteOf(new Map([...bootPcrs(LOG), [4, Buffer.alloc(32, 9)]]));
  const question = questionOf(appraiseBoot(LOG.toString('base64'), quote, expectation(), undefined));
  const unasked = { ...policy, evaluate: () => assert.fail('asked') } as MeasuredBootPolicy;
  const { failures } = judgeBoot(question, unasked);
  assert.deepEqual(kinds({ failures }), ['measured_boot_pcr_mismatch']);
  const event = failures[0] && failureEvent(failures[0]);
  assert.equal(event?.eventId, 'measured_boot.invalid_pcr_4');
  assert.equal(event?.context.got, '09'.repeat(32));
});

test('a log of another bank, an empty one and one cut short fail', () => {
  const sha1 = encodeEventLog(['sha1'], [action(7, 'good')]);
  for (const [log, kind] of [
    [sha1, 'measured_boot_bank_missing'],
    [Buffer.alloc(0), 'measured_boot_log_malformed'],
    [LOG.subarray(0, -3), 'measured_boot_log_malformed'],
  ] as const) {
    const quote = quoteOf(bootPcrs(LOG));
    const question = { ...questionOf(appraiseBoot(LOG.toString('base64'), quote, expectation(), undefined)), log };
    assert.ok(kinds(judgeBoot(question, policy as MeasuredBootPolicy)).includes(kind), kind);
  }
});

test('a violation names the event, what was expected and what was found', () => {
  const found = judged(LOG, expectation({}, 'other'));
  assert.ok(found.failures[0]);
  const { eventId, recoverable, context } = failureEvent(found.failures[0]);
  assert.equal(eventId, 'measured_boot.policy_last-action');
  assert.equal(recoverable, true);
  assert.equal(context.message, 'The boot is not as measured-boot policy last-action wants it: another action');
  const { index, pcr, expected, reason, policy: by } = context;
  assert.deepEqual([index, pcr, expected, reason, by], [2, 7, 'other', 'another_action', 'last-action']);
});

test('a policy that throws, or answers what is no answer, has refused the boot', () => {
  const answers: readonly (() => unknown)[] = [
    () => {
      throw new Error('a bug');
    },
    () => undefined,
    () => Promise.resolve([]),
    () => ['text'],
    () => [{ event: 3 }],
  ];
  for (const evaluate of answers) {
    const found = judged(LOG, expectation(), { ...policy, evaluate } as MeasuredBootPolicy);
    assert.deepEqual(kinds(found), ['measured_boot_policy_failed']);
    assert.equal(found.failures[0] && failureEvent(found.failures[0]).eventId, 'measured_boot.policy_last-action');
  }
});

test('a reference state that the policy does not take, and a policy that is not there, are failures', () => {
  const text = '{"no": "text"}';
  const reference = { rules: 'last-action', text, checksum: referenceChecksum('last-action', text), edition: '1' };
  const found = judged(LOG, expectation({ reference }));
  assert.deepEqual(kinds(found), ['measured_boot_reference_invalid']);
  assert.equal(found.failures[0] && failureEvent(found.failures[0]).eventId, 'pcr_validation.invalid_mb_policy');
  const question = questionOf(appraiseBoot(LOG.toString('base64'), quoteOf(bootPcrs(LOG)), expectation(), undefined));
  assert.deepEqual(kinds(judgeBoot(question, undefined)), ['measured_boot_reference_invalid']);
});

test('of thousands of violations the first ones are told', () => {
  const evaluate = () => Array.from({ length: 5000 }, (_, event) => ({ reason: 'unexpected', event }));
  assert.equal(judged(LOG, expectation(), { ...policy, evaluate } as MeasuredBootPolicy).failures.length, 64);
});
