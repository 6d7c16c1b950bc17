import type { KeyObject } from 'node:crypto';
import { isHashAlgorithm } from '@keylime/core/digest';
import { ownCopy } from '@keylime/core/own-copy';
import { runSteps } from '@keylime/core/steps';
import type { Keyring } from '@keylime/ima/keyring';
import { IMA_PCR, type ImaExtendMode } from '@keylime/ima/replay';
import type { ExtendSteps } from '@keylime/ima/side-by-side';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import type { TpmPolicy } from '@keylime/policies/tpm-policy';
import type { TpmsClockInfo } from '@keylime/tpm/attest';
import { clockProblems, wasReset } from '@keylime/tpm/clock';
import type { TpmtPublic } from '@keylime/tpm/public';
import { type VerifiedQuote, verifyQuote } from '@keylime/tpm/quote';
import {
  type AcceptedAlgorithms,
  declaredAlgorithms,
  misdeclaredAlgorithms,
  unacceptedAlgorithms,
} from './algorithms.ts';
import { bootAggregatesOf } from './boot-aggregate.ts';
import type { BootQuestion } from './boot-verdict.ts';
import { type Check, conclude, type Finding } from './conclude.ts';
import type { PullEvidence } from './evidence.ts';
import type { Failure } from './failure.ts';
import { appraiseBoot, type BootExpectation } from './measured-boot.ts';
import { appraiseBinding, appraisePcrs } from './pcr-policy.ts';
import { fromFirstEntry, type Progress } from './progress.ts';
import { appraiseRuntimeIntegrityInSteps, type HasTime, type RuntimeIntegrity } from './runtime-integrity.ts';

/** What was asked, who must have signed, and the reference values. */
export type Expectation = {
  /**
   * Who began: a verifier that polls (`pull`, unless said otherwise), or an agent by itself. Evidence of the latter binds no
   * transport key in PCR 16, and its TPM may say after a loss of power that its clock is not safe for a while.
   */
  readonly mode?: 'pull' | 'push';
  /** What must be in `extraData`; text as its UTF-8 bytes. */
  readonly nonce: string | Uint8Array;
  /** The PCRs asked for, bit i for PCR i, without PCR 16. */
  readonly mask: number;
  /** The measurement list entry asked for. */
  readonly requestedEntry: number;
  readonly ak: TpmtPublic;
  readonly akKey: KeyObject;
  readonly accepted: AcceptedAlgorithms;
  readonly tpmPolicy: TpmPolicy;
  readonly runtimePolicy: RuntimePolicy;
  /** Keys for signatures of files that the enrolment names; they take the place of the policy's. */
  readonly verificationKeys?: Keyring | undefined;
  /** What a violation (ToMToU, open writers) is: entries that name no content. */
  readonly violations: 'accept' | 'fail';
  /** How the machine's kernel extends PCR 10, as an operator says. Never tried, never taken from the machine. */
  readonly extendMode?: ImaExtendMode;
  /** Absent where the machine's boot is not judged. */
  readonly measuredBoot?: BootExpectation | undefined;
};

/** Why a round says nothing about the machine; the next one asks for the whole list, or once more for the same part. */
export type InconclusiveReason =
  | 'machine_was_reset'
  | 'boot_time_changed'
  | 'clock_unsafe'
  | 'policy_changed'
  | 'transport_key_changed'
  | 'devices_unsettled'
  | Check;

export type AttestationResult =
  | {
      readonly verdict: 'affirming';
      readonly progress: Progress;
      /** Entries of the list that the quote does not cover yet. */
      readonly uncertifiedEntries: number;
    }
  /** Nothing speaks against it so far, but entries of the list that the quote covers wait to be judged: no verdict yet. */
  | { readonly verdict: 'unfinished'; readonly progress: Progress; readonly unjudgedEntries: number }
  | {
      readonly verdict: 'contraindicated';
      readonly failures: readonly [Failure, ...Failure[]];
      /** Failures beyond these: of a list with very many only the first are told. */
      readonly moreFailures: number;
      readonly progress: Progress;
    }
  | { readonly verdict: 'inconclusive'; readonly reason: InconclusiveReason; readonly progress: Progress }
  /** The boot is to be judged by its policy first (`judgeBoot`), and then the same evidence again with the answer. */
  | { readonly verdict: 'boot_unjudged'; readonly question: BootQuestion };

const asksForIma = (mask: number): boolean => ((mask >>> IMA_PCR) & 1) === 1;

/**
 * Judges what an attester sent against what is expected of it, given what is remembered of it: checks Q1 to Q17 of 02
 * section 3.6 of the reference. Nothing that the TPM did not sign is believed before the quote is verified,
 * and what can be judged after that is judged whole, so that every failure is reported. Pure: the same input gives the
 * same result. The progress in the result is what to remember; after a failure it asks for the list from its first entry.
 * With `hasTime`, which makes it as impure as that is, a long list may be judged over several rounds.
 */
export const appraise = (
  evidence: PullEvidence,
  expectation: Expectation,
  progress: Progress,
  hasTime?: HasTime,
): AttestationResult => runSteps(appraiseInSteps(evidence, expectation, progress, hasTime));

/** The same in steps of at most 512 entries of the list, for `runSideBySide`. */
export function* appraiseInSteps(
  evidence: PullEvidence,
  expectation: Expectation,
  progress: Progress,
  hasTime?: HasTime,
): ExtendSteps<AttestationResult> {
  const refused = (failures: readonly [Failure, ...Failure[]]): AttestationResult => ({
    verdict: 'contraindicated',
    failures,
    moreFailures: 0,
    progress: fromFirstEntry(progress),
  });
  const { mask, requestedEntry, runtimePolicy } = expectation;

  const bindsKey = expectation.mode !== 'push';
  const transportKeyPem = evidence.transportKeyPem ?? progress.transportKeyPem;
  if (bindsKey && transportKeyPem === undefined) return refused([{ kind: 'transport_key_missing' }]);

  const [unaccepted, ...more] = unacceptedAlgorithms(declaredAlgorithms(evidence), expectation.accepted);
  if (unaccepted !== undefined) return refused([unaccepted, ...more]);
  const { hashAlg } = evidence;
  if (!isHashAlgorithm(hashAlg)) {
    return refused([
      { kind: 'algorithm_not_accepted', use: 'hash', found: hashAlg, accepted: expectation.accepted.hash },
    ]);
  }

  if (evidence.imaEntry !== 0 && evidence.imaEntry !== requestedEntry) {
    return refused([{ kind: 'ima_entry_unexpected', found: evidence.imaEntry, requested: requestedEntry }]);
  }

  const nonce = typeof expectation.nonce === 'string' ? Buffer.from(expectation.nonce) : expectation.nonce;
  const { ak, akKey } = expectation;
  const dataPcr = bindsKey ? 'required' : 'optional';
  const verified = verifyQuote({ text: evidence.quote, ak, akKey, hashAlg, nonce, mask, dataPcr });
  if (!verified.ok) return refused([verified.failure]);
  const { quote } = verified;

  const bindingFailures = transportKeyPem === undefined || !bindsKey ? [] : appraiseBinding(quote, transportKeyPem);
  // Asked for a part of the list, an agent leaves its key out: one that made another key since is asked for it.
  const hasOtherKey = bindingFailures.length > 0 && evidence.transportKeyPem === undefined && requestedEntry !== 0;
  const clockFound = clockProblems(progress.clock, quote.clockInfo);
  const clockFailures = clockFound.filter(({ recoverable }) => !recoverable);
  const findings: Finding[] = [
    { check: 'quote', failures: [] },
    { check: 'algorithms', failures: misdeclaredAlgorithms(quote, evidence) },
    { check: 'clock', failures: clockFailures },
    ...(bindsKey ? [{ check: 'transport_key' as const, failures: hasOtherKey ? [] : bindingFailures }] : []),
    { check: 'tpm_policy', failures: appraisePcrs(quote, expectation.tpmPolicy) },
  ];

  // From here on the quote counts, and with it the TPM's word that the machine was reset in between.
  const known: Progress = {
    ...progress,
    clock: { ...quote.clockInfo },
    ...(transportKeyPem !== undefined && { transportKeyPem }),
    bootTime: evidence.bootTime,
  };
  const postpone = (reason: InconclusiveReason, next: Progress): AttestationResult => {
    const conclusion = conclude([], findings);
    return conclusion.verdict === 'contraindicated'
      ? { ...conclusion, moreFailures: 0, progress: fromFirstEntry(progress) }
      : { verdict: 'inconclusive', reason, progress: fromFirstEntry(next) };
  };
  const waitsForClock = bindsKey || !mayBeUnsafe(progress.clock, quote.clockInfo);
  if (waitsForClock && clockFound.some(({ kind }) => kind === 'clock_unsafe'))
    return postpone('clock_unsafe', progress);
  if (hasOtherKey) return postpone('transport_key_changed', progress);
  if (evidence.imaEntry !== 0) {
    if (wasReset(progress.clock, quote.clockInfo)) return postpone('machine_was_reset', known);
    if (progress.bootTime !== undefined && evidence.bootTime !== progress.bootTime) {
      return postpone('boot_time_changed', known);
    }
    if (progress.bank !== quote.bank || progress.policyChecksum !== runtimePolicy.checksum) {
      return postpone('policy_changed', known);
    }
  }

  const required: Check[] = [
    'algorithms',
    'quote',
    'clock',
    ...(bindsKey ? (['transport_key'] as const) : []),
    'tpm_policy',
  ];
  let boot: string | undefined;
  if (expectation.measuredBoot !== undefined) {
    required.push('measured_boot');
    const found = appraiseBoot(evidence.bootLog, quote, expectation.measuredBoot, progress.boot);
    if ('question' in found) return { verdict: 'boot_unjudged', question: found.question };
    findings.push({ check: 'measured_boot', failures: found.failures });
    boot = found.key;
  }

  let ima: RuntimeIntegrity | undefined;
  if (asksForIma(mask)) {
    required.push('runtime_integrity');
    if (evidence.imaList === undefined) {
      findings.push({ check: 'runtime_integrity', failures: [{ kind: 'ima_list_missing' }] });
    } else {
      const start = evidence.imaEntry === 0 ? fromFirstEntry(progress) : progress;
      ima = yield* judgeList(evidence.imaList, evidence.imaEntry, quote, expectation, start, hasTime);
      if (ima !== undefined) findings.push({ check: 'runtime_integrity', failures: ima.failures });
    }
  }

  const conclusion = conclude(required, findings);
  if (conclusion.verdict === 'contraindicated') {
    // A clock that went back is not what the next one is compared with.
    return {
      ...conclusion,
      moreFailures: ima === undefined ? 0 : ima.failureCount - ima.failures.length,
      progress: fromFirstEntry(clockFailures.length > 0 ? progress : known),
    };
  }
  if (conclusion.verdict === 'inconclusive') {
    return { verdict: 'inconclusive', reason: conclusion.missing[0], progress: fromFirstEntry(progress) };
  }
  const next: Progress = {
    ...fromFirstEntry(known),
    ...(boot !== undefined && { boot }),
    ...(ima && {
      nextEntry: ima.nextEntry,
      runningPcr: ownCopy(ima.runningPcr),
      quoteProgress: ima.quoteProgress,
      bank: quote.bank,
      policyChecksum: runtimePolicy.checksum,
      ...(ima.learnedKeyrings && { learnedKeyrings: ima.learnedKeyrings }),
      ...(ima.devices && { devices: ima.devices }),
    }),
  };
  // [MUST] What was not judged has not passed.
  if (ima !== undefined && ima.unjudgedEntries > 0) {
    return { verdict: 'unfinished', progress: next, unjudgedEntries: ima.unjudgedEntries };
  }
  if (ima !== undefined && ima.unsettled.length > 0) {
    return { verdict: 'inconclusive', reason: 'devices_unsettled', progress };
  }
  return { verdict: 'affirming', uncertifiedEntries: ima?.uncertifiedEntries ?? 0, progress: next };
}

/**
 * Whether a clock that is not safe is what a machine has that lost its power: since then the TPM was reset or resumed, or it
 * said so before. Whoever polls waits for a safe one; an agent that attests once in a while may not see one for hours, and
 * the nonce alone makes a quote fresh.
 */
const mayBeUnsafe = (previous: TpmsClockInfo | undefined, current: TpmsClockInfo): boolean =>
  previous === undefined ||
  !previous.safe ||
  current.resetCount > previous.resetCount ||
  current.restartCount > previous.restartCount;

function* judgeList(
  list: string,
  firstEntry: number,
  quote: VerifiedQuote,
  { runtimePolicy, verificationKeys, violations, extendMode }: Expectation,
  { runningPcr, quoteProgress, learnedKeyrings, devices }: Progress,
  hasTime: HasTime | undefined,
): ExtendSteps<RuntimeIntegrity | undefined> {
  const quotedPcr = quote.pcrs.get(IMA_PCR);
  // Not quoted is not checked, and not checked is not passed.
  if (quotedPcr === undefined) return undefined;
  return yield* appraiseRuntimeIntegrityInSteps({
    list,
    firstEntry,
    bank: quote.bank,
    quotedPcr,
    runningPcr,
    quoteProgress,
    learnedKeyrings,
    devices,
    policy: runtimePolicy,
    verificationKeys,
    bootAggregates: quotedBootAggregates(quote),
    violations,
    ...(extendMode && { extendMode }),
    hasTime,
  });
}

/** The boot aggregates that the quoted PCRs give. */
export const quotedBootAggregates = ({ bank, pcrs }: VerifiedQuote): readonly string[] => bootAggregatesOf(bank, pcrs);
