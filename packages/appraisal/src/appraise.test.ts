import assert from 'node:assert/strict';
import { createHash, generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { decodeRuntimePolicy } from '@keylime/policies/runtime-policy';
import { decodeTpmPolicy } from '@keylime/policies/tpm-policy';
import { SIMULATED_BOOT_AGGREGATE, simulatedAgent } from '@keylime/testing/simulated-agent';
import { softwareAk } from '@keylime/testing/software-ak';
import { appraise, type Expectation } from './appraise.ts';
import { decodePullEvidence, isEvidence, type PullEvidence } from './evidence.ts';
import type { BootExpectation } from './measured-boot.ts';
import type { Progress } from './progress.ts';

const ak = softwareAk({ encryption: 'ecc256' });
const pem = (): string =>
  generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ type: 'spki', format: 'pem' }).toString();
const transportKeyPem = pem();
const IMA_MASK = 0x400;

const hexOf = (content: string) => digest('sha256', Buffer.from(content)).toString('hex');

function runtimePolicy(files: Readonly<Record<string, string>>) {
  const digests = Object.fromEntries(Object.entries(files).map(([path, content]) => [path, [hexOf(content)]]));
  const decoded = decodeRuntimePolicy(
    JSON.stringify({
      meta: { version: 1, generator: 3 },
      release: 0,
      digests: { boot_aggregate: [SIMULATED_BOOT_AGGREGATE], ...digests },
      excludes: [],
      keyrings: {},
      ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: null },
      'ima-buf': {},
      'verification-keys': '',
    }),
  );
  assert.ok(decoded.ok);
  return decoded.value;
}

function tpmPolicy(text: string) {
  const decoded = decodeTpmPolicy(text);
  assert.ok(decoded.ok);
  return decoded.value;
}

const known = runtimePolicy({ '/bin/a': 'a', '/bin/b': 'b' });
const NONCE = 'abcdefghij0123456789';

/** What the attester is asked at first. */
const plainExpectation: Expectation = {
  nonce: NONCE,
  mask: IMA_MASK,
  requestedEntry: 0,
  ak: ak.public,
  akKey: ak.publicKey,
  accepted: { hash: ['sha256'], encryption: ['ecc'], signing: ['ecdsa'] },
  tpmPolicy: tpmPolicy('{"mask": "0x400"}'),
  runtimePolicy: known,
  violations: 'accept',
};

/** An attester, and rounds with it; `lie` changes what it sends. */
function attester() {
  const agent = simulatedAgent({ ak, encAlg: 'ecc256', signAlg: 'ecdsa', transportKeyPem });
  let progress: Progress = { nextEntry: 0 };
  return {
    agent,
    progress: () => progress,
    round(
      overrides: Partial<Expectation> = {},
      lie: (results: Record<string, unknown>) => Record<string, unknown> = (results) => results,
      hasTime?: () => boolean,
    ) {
      const expectation: Expectation = {
        ...plainExpectation,
        requestedEntry: progress.nextEntry,
        ...overrides,
      };
      const { mask, nonce, requestedEntry: entry } = expectation;
      const evidence = decodePullEvidence(
        lie(
          agent.integrityQuote({ nonce: String(nonce), mask, partial: progress.transportKeyPem !== undefined, entry }),
        ) as never,
      );
      assert.ok(isEvidence(evidence));
      const result = appraise(evidence, expectation, progress, hasTime);
      assert.ok(result.verdict !== 'boot_unjudged');
      progress = result.progress;
      return result;
    },
  };
}

const kindsOf = (result: ReturnType<typeof appraise>): readonly string[] =>
  result.verdict === 'contraindicated' ? result.failures.map(({ kind }) => kind) : [result.verdict];

test('a machine that runs what it should is affirmed, round by round, from where the last one ended', () => {
  const { agent, round, progress } = attester();
  assert.equal(round().verdict, 'affirming');
  assert.equal(progress().nextEntry, 1);
  agent.measure('/bin/a', Buffer.from('a'));
  assert.equal(round().verdict, 'affirming');
  assert.equal(progress().nextEntry, 2);
  assert.equal(round().verdict, 'affirming');
});

test('a list that there is no time for is judged over several rounds, and no round but the last is a verdict', () => {
  const { agent, round, progress } = attester();
  // Files that digests accept cost next to no time, and are not asked about.
  for (const path of ['/bin/a', '/bin/b']) {
    agent.append(`10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} ${path}\n`, Buffer.alloc(32, 0xff));
  }
  const never = () => false;
  const first = round({}, undefined, never);
  assert.deepEqual(first, { verdict: 'unfinished', progress: first.progress, unjudgedEntries: 2 });
  assert.equal(progress().nextEntry, 1);
  assert.equal(round({}, undefined, never).verdict, 'unfinished');
  agent.measure('/bin/unknown', Buffer.from('u'));
  assert.equal(round({}, undefined, never).verdict, 'unfinished');
  assert.deepEqual(kindsOf(round({}, undefined, never)), ['ima_path_unknown']);
  assert.equal(progress().nextEntry, 0);
});

test('what else speaks against a machine is told at once, however long its list is', () => {
  const { agent, round } = attester();
  agent.measure('/bin/a', Buffer.from('a'));
  const lie = (results: Record<string, unknown>) => ({ ...results, ima_measurement_list: '' });
  assert.deepEqual(kindsOf(round({}, lie, () => false)), ['ima_boot_aggregate_missing', 'ima_pcr_mismatch']);
  const wrongPcr = { mask: 0x400400, tpmPolicy: tpmPolicy(`{"22": "${'00'.repeat(31)}01", "mask": "0x400400"}`) };
  assert.deepEqual(kindsOf(round(wrongPcr, undefined, () => false)), ['pcr_not_allowed']);
});

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

test('an unknown file is named with its index, and the next round asks for the whole list', () => {
  const { agent, round, progress } = attester();
  round();
  agent.measure('/opt/x', Buffer.from('x'));
  const result = round();
  assert.ok(result.verdict === 'contraindicated');
  assert.deepEqual(result.failures, [
    {
      kind: 'ima_path_unknown',
      index: 1,
      path: '/opt/x',
      template: 'ima-ng',
      map: 'digests',
      actual: sha256('x'),
      explanation: { judgedFrom: 1 },
    },
  ]);
  assert.equal(progress().nextEntry, 0);
});

test('every failure is reported: of the PCR policy, of the list, and of the binding of the key', () => {
  const { agent, round } = attester();
  agent.measure('/opt/x', Buffer.from('x'));
  const policy = tpmPolicy(`{"22": "${'00'.repeat(31)}01", "mask": "0x400400"}`);
  const result = round({ tpmPolicy: policy, mask: 0x400400 }, (results) => ({ ...results, pubkey: pem() }));
  assert.deepEqual(kindsOf(result), ['binding_pcr_mismatch', 'pcr_not_allowed', 'ima_path_unknown']);
});

test('[MUST] an agent with another key than the one remembered neither passes nor fails until it sends that key', () => {
  const { round, progress } = attester();
  round();
  const another = simulatedAgent({ ak, encAlg: 'ecc256', signAlg: 'ecdsa', transportKeyPem: pem() });
  const withOtherKey = (partial: boolean) =>
    another.integrityQuote({ nonce: NONCE, mask: IMA_MASK, partial, entry: progress().nextEntry }) as never;
  withOtherKey(true); // The TPM's clock goes on.
  const result = round({}, () => withOtherKey(true));
  assert.ok(result.verdict === 'inconclusive');
  assert.equal(result.reason, 'transport_key_changed');
  assert.deepEqual([progress().nextEntry, progress().transportKeyPem], [0, transportKeyPem]);
  // Asked for everything it has no excuse.
  assert.deepEqual(kindsOf(round({}, () => withOtherKey(true))), ['binding_pcr_mismatch']);
  assert.deepEqual(kindsOf(round({}, () => withOtherKey(false))), ['affirming']);
  assert.notEqual(progress().transportKeyPem, transportKeyPem);
});

test('PCR 10 that was asked for needs a list', () => {
  const { round } = attester();
  assert.deepEqual(kindsOf(round({}, ({ ima_measurement_list: _, ...rest }) => rest)), ['ima_list_missing']);
});

test('a list from another entry than asked for is refused, before anything of it is looked at', () => {
  const { round } = attester();
  round();
  assert.deepEqual(kindsOf(round({}, (results) => ({ ...results, ima_measurement_list_entry: 7 }))), [
    'ima_entry_unexpected',
  ]);
});

test('a lying boot time with an offset says nothing: neither pass nor fail, and the whole list is asked for', () => {
  const { round, progress } = attester();
  round();
  const result = round({}, (results) => ({ ...results, boottime: 12345 }));
  assert.equal(result.verdict, 'inconclusive');
  assert.equal(progress().nextEntry, 0);
});

test('a lying boot time does not hide a bad quote', () => {
  const { round } = attester();
  round();
  const other = softwareAk({ encryption: 'ecc256' });
  const forged = other.quote({ nonce: Buffer.from(NONCE), mask: IMA_MASK });
  assert.deepEqual(kindsOf(round({}, (results) => ({ ...results, boottime: 1, quote: forged }))), [
    'quote_signature_invalid',
  ]);
});

test('after a reset of the TPM the list is asked for from its start, and then judged', () => {
  const { agent, round } = attester();
  agent.measure('/bin/a', Buffer.from('a'));
  round();
  agent.reboot();
  agent.measure('/bin/b', Buffer.from('b'));
  const result = round();
  assert.ok(result.verdict === 'inconclusive');
  assert.equal(result.reason, 'machine_was_reset');
  assert.equal(round().verdict, 'affirming');
});

test('entries that another policy accepted do not count under a new one', () => {
  const { agent, round } = attester();
  agent.measure('/bin/a', Buffer.from('a'));
  assert.equal(round().verdict, 'affirming');
  const tightened = runtimePolicy({ '/bin/b': 'b' });
  const result = round({ runtimePolicy: tightened });
  assert.ok(result.verdict === 'inconclusive');
  assert.equal(result.reason, 'policy_changed');
  assert.deepEqual(kindsOf(round({ runtimePolicy: tightened, requestedEntry: 0 })), ['ima_path_unknown']);
});

test('a clock that goes back is a failure, and is not what the next one is compared with', () => {
  const { round, progress } = attester();
  round();
  const quote = (clock: bigint) =>
    ak.quote({ nonce: Buffer.from(NONCE), mask: 0, bindingPublicKeyPem: transportKeyPem, clockInfo: { clock } });
  const plain = { mask: 0, requestedEntry: 0 };
  const first = round(plain, (results) => ({ ...results, quote: quote(500n) }));
  assert.equal(first.verdict, 'affirming');
  assert.deepEqual(kindsOf(round(plain, (results) => ({ ...results, quote: quote(400n) }))), ['clock_not_advanced']);
  assert.equal(progress().clock?.clock, 500n);
});

test('a clock that is not safe yet is asked again', () => {
  const { round, progress } = attester();
  round();
  const before = progress().clock;
  const unsafe = ak.quote({
    nonce: Buffer.from(NONCE),
    mask: IMA_MASK,
    bindingPublicKeyPem: transportKeyPem,
    clockInfo: { safe: false },
  });
  const result = round({}, (results) => ({ ...results, quote: unsafe }));
  assert.ok(result.verdict === 'inconclusive');
  assert.equal(result.reason, 'clock_unsafe');
  assert.deepEqual(progress().clock, before);
});

test('algorithms that are not accepted, or not what they are said to be, are refused', () => {
  const { round } = attester();
  const accepted = { hash: ['sha384'], encryption: ['ecc'], signing: ['rsassa'] };
  const result = round({ accepted });
  assert.deepEqual(kindsOf(result), ['algorithm_not_accepted', 'algorithm_not_accepted']);
  const both = { hash: ['sha256'], encryption: ['ecc', 'rsa'], signing: ['ecdsa', 'rsassa'] };
  const lie = (results: Record<string, unknown>) => ({ ...results, enc_alg: 'rsa', sign_alg: 'rsassa' });
  assert.deepEqual(kindsOf(round({ accepted: both }, lie)), ['algorithm_misdeclared', 'algorithm_misdeclared']);
});

test('without a transport key, sent or known, there is nothing to bind', () => {
  const { round } = attester();
  assert.deepEqual(kindsOf(round({}, ({ pubkey: _, ...rest }) => rest)), ['transport_key_missing']);
});

const BOOT: BootExpectation = {
  reference: { rules: 'any', text: '{"a": 1}', checksum: 'c', edition: '1' },
  pcrs: [0, 7],
  evaluate: 'once',
};
const withBootLog = (results: Record<string, unknown>) => ({ ...results, mb_measurement_list: 'AAAA' });
const bootExpectation = { mask: 0x4ff, measuredBoot: BOOT };

test('[MUST] a boot that is to be judged is a question, and no round without its answer passes', () => {
  const { question, ...unasked } = bootRound();
  assert.match(question.key, /^[0-9a-f]{64}$/);
  const accepted = unasked.again({ ...BOOT, verdict: { key: question.key, failures: [] } });
  assert.equal(accepted.verdict, 'affirming');
  assert.equal(accepted.verdict === 'affirming' && accepted.progress.boot, question.key);
  const failures = [{ kind: 'measured_boot_log_not_base64' } as const];
  const refused = unasked.again({ ...BOOT, verdict: { key: question.key, failures } });
  assert.deepEqual(kindsOf(refused), ['measured_boot_log_not_base64']);
  assert.equal(refused.verdict === 'contraindicated' && refused.progress.boot, undefined);
  assert.equal(unasked.again({ ...BOOT, verdict: { key: 'another', failures: [] } }).verdict, 'boot_unjudged');
});

test('[MUST] a quote that is refused asks no policy anything', () => {
  const other = softwareAk({ encryption: 'ecc256' });
  const forged = other.quote({ nonce: Buffer.from(NONCE), mask: 0x4ff, bindingPublicKeyPem: transportKeyPem });
  const { round } = attester();
  const result = round(bootExpectation, (results) => withBootLog({ ...results, quote: forged }));
  assert.deepEqual(kindsOf(result), ['quote_signature_invalid']);
});

test('[MUST] a boot without a log fails, together with whatever else does', () => {
  const { agent, round } = attester();
  agent.measure('/opt/x', Buffer.from('x'));
  assert.deepEqual(kindsOf(round(bootExpectation)), ['measured_boot_log_missing', 'ima_path_unknown']);
});

/** A round whose boot is a question, and the same again with other expectations of the boot. */
function bootRound() {
  const agent = simulatedAgent({ ak, encAlg: 'ecc256', signAlg: 'ecdsa', transportKeyPem });
  const answer = agent.integrityQuote({ nonce: NONCE, mask: 0x4ff, partial: false, entry: 0 });
  const evidence = decodePullEvidence(withBootLog(answer) as never) as PullEvidence;
  const again = (measuredBoot: BootExpectation) =>
    appraise(evidence, { ...plainExpectation, mask: 0x4ff, measuredBoot }, { nextEntry: 0 });
  const first = again(BOOT);
  assert.ok(first.verdict === 'boot_unjudged');
  return { question: first.question, again };
}

test('the same evidence, expectation and progress give the same result', () => {
  const agent = simulatedAgent({ ak, encAlg: 'ecc256', signAlg: 'ecdsa', transportKeyPem });
  const evidence = decodePullEvidence(
    agent.integrityQuote({ nonce: NONCE, mask: IMA_MASK, partial: false, entry: 0 }) as never,
  ) as PullEvidence;
  assert.deepEqual(
    appraise(evidence, plainExpectation, { nextEntry: 0 }),
    appraise(evidence, plainExpectation, { nextEntry: 0 }),
  );
});
