import { digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { runSteps } from '@keylime/core/steps';
import type { Keyring } from '@keylime/ima/keyring';
import { makesProgress, type QuoteProgress } from '@keylime/ima/quote-progress';
import { type ImaExtendMode, type ImaLine, type ImaListPart, nonBlankLines } from '@keylime/ima/replay';
import { runningPcrAfter } from '@keylime/ima/running-pcr';
import { scanImaList } from '@keylime/ima/scan';
import type { ExtendSteps } from '@keylime/ima/side-by-side';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { BOOT_AGGREGATE } from './boot-aggregate.ts';
import { DeviceMapper, type DmState, NO_DEVICES } from './device-mapper.ts';
import { explain } from './explanation.ts';
import { countJudged, knownFiles } from './known-files.ts';
import { acceptsFile, judgeLine, type MeasurementFailure, type MeasurementRules } from './measurement.ts';
import { type LearnedKeyrings, SigningKeys } from './signing-keys.ts';

/** Why a measurement list was not accepted. */
export type RuntimeIntegrityFailure =
  | MeasurementFailure
  /** No entry of the list leads to the quoted value; `replayed` is the value after the last one. */
  | { readonly kind: 'ima_pcr_mismatch'; readonly quoted: string; readonly replayed: string }
  | { readonly kind: 'ima_boot_aggregate_missing' }
  | ({ readonly kind: 'ima_quote_progress' } & QuoteProgress);

export type RuntimeIntegrityEvidence = {
  /** Text of the list from entry `firstEntry` on, as bytes or as it came in JSON. */
  readonly list: string | Uint8Array;
  readonly firstEntry: number;
  readonly bank: HashAlgorithm;
  /** PCR 10 of a verified quote, in `bank`. */
  readonly quotedPcr: Uint8Array;
  /** PCR 10 before `firstEntry`, in `bank`; not looked at, for it is zeros, where `firstEntry` is 0. */
  readonly runningPcr?: Uint8Array | undefined;
  /** Of the round before; not looked at where `firstEntry` is 0. */
  readonly quoteProgress?: QuoteProgress | undefined;
  /** Keys that certified entries before `firstEntry` brought; not looked at where it is 0. The same for the devices. */
  readonly learnedKeyrings?: LearnedKeyrings | undefined;
  readonly devices?: DmState | undefined;
  readonly policy: RuntimePolicy;
  /** Keys for signatures of files instead of the policy's. */
  readonly verificationKeys?: Keyring | undefined;
  /** Hex; see MeasurementRules. */
  readonly bootAggregates?: readonly string[];
  readonly violations: 'accept' | 'fail';
  readonly extendMode?: ImaExtendMode;
  /** Asked before each entry that takes more than a look-up, but the first; where it says no, the entries from there on wait. */
  readonly hasTime?: HasTime | undefined;
};

/** Whether there is time to go on; absent: as much as it takes. */
export type HasTime = () => boolean;

export type RuntimeIntegrity = {
  /**
   * The first `MAX_FAILURES` failures in the order of the list, and of those behind them the first of each kind; none if and
   * only if the list is accepted.
   */
  readonly failures: readonly RuntimeIntegrityFailure[];
  readonly failureCount: number;
  readonly entryCount: number;
  /** Entries that the quote covers. The others were not judged: they are to be asked for again, at best at once. */
  readonly certifiedEntries: number;
  readonly uncertifiedEntries: number;
  /** Entries that the quote covers and that nobody judged, for lack of time: as long as there are some, nothing has passed. */
  readonly unjudgedEntries: number;
  readonly violationCount: number;
  /** To remember, with those below, if and only if there are no failures: the first entry not certified, or not judged. */
  readonly nextEntry: number;
  /** PCR 10 before `nextEntry`, in the quoted bank. */
  readonly runningPcr: Buffer;
  readonly quoteProgress: QuoteProgress;
  readonly learnedKeyrings: LearnedKeyrings | undefined;
  readonly devices: DmState | undefined;
  /**
   * What is wrong with the devices of now while the list goes on beyond the quote, where it may be put right: no pass, or the
   * list could go on for ever, and no failure yet.
   */
  readonly unsettled: readonly RuntimeIntegrityFailure[];
};

export const MAX_FAILURES = 100;

/**
 * Appraises a part of a measurement list against a verified quote of PCR 10 and a runtime policy. Entries after the first
 * match with the quoted value are certified by nothing, and so neither pass nor fail. A bank other than the one that
 * `runningPcr` belongs to cannot match: ask for the full list first.
 */
export const appraiseRuntimeIntegrity = (evidence: RuntimeIntegrityEvidence): RuntimeIntegrity =>
  runSteps(appraiseRuntimeIntegrityInSteps(evidence));

/** The same in steps of at most 512 entries, for `runSideBySide` or with other work in between; returns what the last gives. */
export function* appraiseRuntimeIntegrityInSteps(evidence: RuntimeIntegrityEvidence): ExtendSteps<RuntimeIntegrity> {
  const { list, bank, firstEntry, quotedPcr, policy, violations } = evidence;
  const zeros = new Uint8Array(digestSize(bank));
  const isFull = firstEntry === 0;
  const keys = new SigningKeys(
    evidence.verificationKeys ?? policy.verificationKeys,
    isFull ? undefined : evidence.learnedKeyrings,
  );
  const deviceMapper =
    policy.dmPolicy === null
      ? undefined
      : new DeviceMapper(policy.dmPolicy, (isFull ? undefined : evidence.devices) ?? NO_DEVICES);
  const bootAggregates = evidence.bootAggregates ?? [];
  const rules: MeasurementRules = { policy, violations, bootAggregates, keys, deviceMapper };

  const failures = new FailureList();
  let violationCount = 0;
  let startsWithBootAggregate = false;
  /** The first that is not judged. */
  let stop = Number.POSITIVE_INFINITY;
  const known = yield* knownFiles(policy, list);
  const part: ImaListPart = {
    list,
    firstIndex: firstEntry,
    bank,
    quotedPcr,
    runningPcr: isFull ? zeros : (evidence.runningPcr ?? zeros),
    logHashAlgorithm: policy.logHashAlgorithm,
    ...(evidence.extendMode && { extendMode: evidence.extendMode }),
  };
  const replay = yield* scanImaList(part, {
    known,
    listed: (...place) => policy.digests.includesBytes(...place),
    excludes: policy.excludes.matchesAscii,
    file(index, path, hex) {
      if (index > stop) return true;
      if (index === 0) startsWithBootAggregate = path === BOOT_AGGREGATE;
      return acceptsFile(path, hex, rules);
    },
    line(line) {
      if (line.index < stop && line.index > firstEntry && evidence.hasTime?.() === false) stop = line.index;
      if (line.index >= stop) {
        // What makes the list lead elsewhere is told in any case: it costs little, and without it nobody would know why.
        if (isBroken(line)) failures.add(judgeLine(line, rules));
        return;
      }
      if (line.violation) violationCount++;
      if (line.index === 0) {
        startsWithBootAggregate = !line.violation && line.parsed.ok && line.parsed.value.path === BOOT_AGGREGATE;
      }
      failures.add(judgeLine(line, rules));
    },
  });

  countJudged(policy, list);

  if (isFull && !startsWithBootAggregate) failures.add([{ kind: 'ima_boot_aggregate_missing' }]);
  const certifiedEntries = replay.certifiedCount ?? 0;
  const quoteProgress: QuoteProgress = { matched: certifiedEntries, length: replay.entryCount };
  if (replay.certifiedCount === undefined) {
    const quoted = Buffer.from(quotedPcr).toString('hex');
    failures.add([{ kind: 'ima_pcr_mismatch', quoted, replayed: replay.runningPcr.toString('hex') }]);
  } else if (!makesProgress(isFull ? undefined : evidence.quoteProgress, quoteProgress)) {
    failures.add([{ kind: 'ima_quote_progress', ...quoteProgress }]);
  }
  const judgedEntries = Math.min(certifiedEntries, stop - firstEntry);
  const devices = (deviceMapper?.judgeState() ?? []).map(
    (finding) => ({ kind: 'ima_device_mapper', ...finding }) as const,
  );
  // A list that goes on beyond the quote, or that there was no time for, may still bring what is missing.
  const isWhole = judgedEntries === replay.entryCount;
  if (isWhole) failures.add(devices);
  return {
    failures: explain(failures.first, { lines: () => nonBlankLines(list), firstEntry, policy }),
    failureCount: failures.count,
    entryCount: replay.entryCount,
    certifiedEntries,
    uncertifiedEntries: replay.entryCount - certifiedEntries,
    unjudgedEntries: certifiedEntries - judgedEntries,
    violationCount,
    nextEntry: firstEntry + judgedEntries,
    runningPcr: judgedEntries < certifiedEntries ? yield* runningPcrAfter(part, judgedEntries) : replay.runningPcr,
    // The next round begins behind the judged ones, and has to certify what is left of this list.
    quoteProgress: { matched: judgedEntries, length: replay.entryCount },
    learnedKeyrings: keys.learned(),
    devices: deviceMapper?.state(),
    unsettled: isWhole || judgedEntries < certifiedEntries ? [] : devices,
  };
}

/**
 * Counts all failures and keeps the first ones, and the first of each kind: many failures that an operator takes lightly must
 * not hide a grave one behind them.
 */
class FailureList {
  readonly first: RuntimeIntegrityFailure[] = [];
  readonly #kinds = new Set<string>();
  count = 0;

  add(failures: readonly RuntimeIntegrityFailure[]): void {
    this.count += failures.length;
    for (const failure of failures) {
      const kind = `${failure.kind} ${'problem' in failure ? failure.problem : ''} ${'map' in failure ? failure.map : ''}`;
      if (this.first.length >= MAX_FAILURES && this.#kinds.has(kind)) continue;
      this.#kinds.add(kind);
      this.first.push(copied(failure));
    }
  }
}

/** A line that was not made by a kernel: what judges it looks no further than that. */
const isBroken = ({ parsed, violation, computedHash }: ImaLine): boolean =>
  !parsed.ok || (!violation && parsed.value.templateHash !== computedHash);

/** A copy without the list: a path is a part of a long text, which it would keep in memory. */
const copied = (failure: RuntimeIntegrityFailure): RuntimeIntegrityFailure => JSON.parse(JSON.stringify(failure));
