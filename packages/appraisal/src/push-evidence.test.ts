import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest, digestSize, extend } from '@keylime/core/digest';
import { recordImaNg } from '@keylime/ima/record';
import { decodeRuntimePolicy } from '@keylime/policies/runtime-policy';
import { decodeTpmPolicy } from '@keylime/policies/tpm-policy';
import { forgedQuote, truthfulValues } from '@keylime/testing/forged-quote';
import { type QuoteOptions, softwareAk } from '@keylime/testing/software-ak';
import type { TpmsClockInfo } from '@keylime/tpm/attest';
import { appraise, type Expectation } from './appraise.ts';
import type { PullEvidence } from './evidence.ts';
import type { Progress } from './progress.ts';

const ak = softwareAk({ encryption: 'ecc256' });
const challenge = Buffer.from('00ff80fe', 'hex');
const CONTENT = digest('sha256', Buffer.from('content'));

function policies() {
  const runtime = decodeRuntimePolicy(
    JSON.stringify({
      meta: { version: 1, generator: 3 },
      release: 0,
      digests: { boot_aggregate: [CONTENT.toString('hex')], '/bin/a': [CONTENT.toString('hex')] },
      excludes: [],
      keyrings: {},
      ima: { ignored_keyrings: [], log_hash_alg: 'sha1', dm_policy: null },
      'ima-buf': {},
      'verification-keys': '',
    }),
  );
  const tpm = decodeTpmPolicy('{"mask": "0x400"}');
  assert.ok(runtime.ok && tpm.ok);
  return { runtimePolicy: runtime.value, tpmPolicy: tpm.value };
}

const expectation: Expectation = {
  mode: 'push',
  nonce: challenge,
  mask: 0x400,
  requestedEntry: 0,
  ak: ak.public,
  akKey: ak.publicKey,
  accepted: { hash: ['sha256'], encryption: ['ecc'], signing: ['ecdsa'] },
  ...policies(),
  violations: 'accept',
};

/** A machine that measured these files, and what its TPM says of its clock. */
function evidence(files: readonly string[], clockInfo: Partial<TpmsClockInfo> = {}, quote = ak.quote): PullEvidence {
  const measured = files.map((file) => recordImaNg(file, 'sha256', CONTENT));
  const pcr = measured.reduce<Buffer>(
    (value, one) => extend('sha256', value, one.extendValue('sha256')),
    Buffer.alloc(digestSize('sha256')),
  );
  const clock = { clock: 1000n, resetCount: 1, restartCount: 0, safe: true, ...clockInfo };
  return {
    quote: quote({ nonce: challenge, mask: 0x400, pcrs: new Map([[10, pcr]]), clockInfo: clock }),
    hashAlg: 'sha256',
    encAlg: 'ecc256',
    signAlg: 'ecdsa',
    imaList: measured.map(({ line }) => line).join(''),
    imaEntry: 0,
    bootTime: 7,
  };
}

const empty: Progress = { nextEntry: 0 };
const verdictOf = (...args: Parameters<typeof appraise>) => {
  const result = appraise(...args);
  return result.verdict === 'contraindicated' ? result.failures.map(({ kind }) => kind).join() : result.verdict;
};

test('evidence of an agent that began by itself needs no transport key, and binds none', () => {
  const result = appraise(evidence(['boot_aggregate', '/bin/a']), expectation, empty);
  assert.ok(result.verdict === 'affirming');
  assert.deepEqual([result.progress.nextEntry, result.progress.transportKeyPem], [2, undefined]);
  assert.equal(
    verdictOf(evidence(['boot_aggregate']), { ...expectation, mode: 'pull' }, empty),
    'transport_key_missing',
  );
});

/** A quote of the PCRs asked for and no others. */
const withoutPcr16 = (truth: QuoteOptions): string => {
  const selection = { bank: 'sha256', mask: truth.mask } as const;
  const values = [...truthfulValues(truth)].filter(([pcr]) => pcr !== 16).map(([, value]) => value);
  return forgedQuote(ak, truth, { attested: [selection], labelled: selection, values });
};

test('[MUST] PCR 16 may be left out, and no other PCR may be there or missing', () => {
  assert.equal(verdictOf(evidence(['boot_aggregate'], {}, withoutPcr16), expectation, empty), 'affirming');
  for (const mask of [0x0, 0x800, 0xc00]) {
    const other = (truth: QuoteOptions) => withoutPcr16({ ...truth, mask });
    const found = verdictOf(evidence(['boot_aggregate'], {}, other), expectation, empty);
    assert.equal(found, mask === 0 ? 'pcr_bank_inactive' : 'quote_pcr_selection');
  }
});

test('[MUST] a quote over another challenge is refused', () => {
  const nonce = Buffer.from('00ff80ff', 'hex');
  assert.equal(verdictOf(evidence(['boot_aggregate']), { ...expectation, nonce }, empty), 'quote_nonce_mismatch');
});

test('a list is judged from its first entry after a reboot, with nothing carried over', () => {
  const before = appraise(evidence(['boot_aggregate', '/bin/a']), expectation, empty);
  const after = evidence(['boot_aggregate'], { clock: 2000n, resetCount: 2 });
  assert.equal(verdictOf(after, expectation, before.verdict === 'affirming' ? before.progress : empty), 'affirming');
});

test('[MUST] a part of the list after a reboot that the agent did not tell of is not judged', () => {
  const before = appraise(evidence(['boot_aggregate', '/bin/a']), expectation, empty);
  assert.ok(before.verdict === 'affirming');
  const after = { ...evidence([], { clock: 2000n, resetCount: 2 }), imaEntry: 2 };
  const result = appraise(after, { ...expectation, requestedEntry: 2 }, before.progress);
  assert.ok(result.verdict === 'inconclusive');
  assert.deepEqual([result.reason, result.progress.nextEntry], ['machine_was_reset', 0]);
});

test('a clock that lost power is taken as it is after a reset, until it is safe again, and not otherwise', () => {
  const first = appraise(evidence(['boot_aggregate'], { clock: 9000n }), expectation, empty);
  assert.ok(first.verdict === 'affirming');
  const lost = { clock: 5000n, resetCount: 2, safe: false };
  const second = appraise(evidence(['boot_aggregate'], lost), expectation, first.progress);
  assert.ok(second.verdict === 'affirming');
  const later = evidence(['boot_aggregate'], { ...lost, clock: 6000n });
  assert.equal(verdictOf(later, expectation, second.progress), 'affirming');
  assert.equal(verdictOf(evidence(['boot_aggregate'], lost), expectation, second.progress), 'clock_not_advanced');
  const sudden = evidence(['boot_aggregate'], { clock: 9001n, safe: false });
  assert.equal(verdictOf(sudden, expectation, first.progress), 'inconclusive');
  assert.equal(verdictOf(later, { ...expectation, mode: 'pull' }, second.progress), 'transport_key_missing');
});
