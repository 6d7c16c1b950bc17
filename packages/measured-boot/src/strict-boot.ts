import { digestHex, type HashAlgorithm } from '@keylime/core/digest';
import { type CoveredData, coveredData, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import { SEPARATED_PCRS } from './boot-pcrs.ts';
import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import { inBank } from './reference-values.ts';
import { findBootOrder } from './strict-boot-order.ts';
import type { StrictReference } from './strict-reference.ts';

/** An event that nothing is wrong with by itself, and that has to be explained. */
export type StrictEvent = {
  readonly event: MeasuredEvent;
  /** What its digest covers. */
  readonly covered: CoveredData | undefined;
  /** Known by its digest, or a command of GRUB that a pattern matches: explained. */
  readonly isListed: boolean;
  readonly isAfterSeparator: boolean;
};

export type StrictBoot = {
  readonly bank: HashAlgorithm;
  /** In the order of each PCR, without separators and without what is a violation already. */
  readonly events: (pcr: number) => readonly StrictEvent[];
  readonly unloggedActions: readonly string[];
};

/** Where only the firmware's own start measures: nothing is ever behind the separator. */
const CLOSED_PCRS: readonly number[] = [0, 3, 6];

const SEPARATOR = Buffer.alloc(4);
const OTHER_SEPARATORS = [Buffer.of(1, 0, 0, 0), Buffer.alloc(4, 0xff)];
const ERROR = 'separator_tells_error';
const DEBUG_MODE = 'UEFI Debug Mode';
const NO_DMA_PROTECTION = 'DMA Protection Disabled';

/**
 * Sorts the events of a log, and tells those that are wrong wherever they are: separators that tell an error, that are
 * missing or there twice, debugging, and data that is not what was measured. They are known by their digests, so that no
 * other type hides them.
 */
export function sortEvents(
  log: VerifiedEventLog,
  reference: StrictReference,
): { readonly boot: StrictBoot; readonly violations: readonly BootViolation[] } {
  const { bank } = log;
  const separator = digestHex(bank, SEPARATOR);
  const forbidden = forbiddenDigests(bank, reference);
  const listed = new Map(Array.from(reference.digests, ([pcr, list]) => [pcr, inBank(list, bank)]));
  const malformed = new Set(log.problems.map(({ index }) => index));
  const separated = new Set<number>();
  const events = new Map<number, StrictEvent[]>();
  const violations: BootViolation[] = [];
  const bootOrder = findBootOrder(log.events);
  const forbiddenAs = (event: MeasuredEvent): string | undefined => {
    const reason = forbidden.get(event.digest);
    return reason === ERROR && event === bootOrder ? undefined : reason;
  };

  for (const event of log.events) {
    const { pcr, digest } = event;
    const isListed = listed.get(pcr)?.has(digest) ?? false;
    const isSeparator = digest === separator && SEPARATED_PCRS.includes(pcr);
    const isAfterSeparator = separated.has(pcr);
    const problems: (string | undefined)[] = [forbiddenAs(event), isListed ? undefined : dataProblem(event, malformed)];
    if (isSeparator) {
      separated.add(pcr);
      if (event.type !== 'EV_SEPARATOR') problems.push('separator_of_other_type');
      if (isAfterSeparator) problems.push('separator_repeated');
    } else if (isAfterSeparator && CLOSED_PCRS.includes(pcr)) problems.push('event_after_separator');
    const reasons = problems.filter((reason) => reason !== undefined);
    for (const reason of reasons) violations.push(violationBy(event, reason, { found: digestWords(event) }));
    if (reasons.length > 0 || isSeparator) continue;
    const covered = coveredData(event);
    const isKnown = isListed || isAllowedCommand(event, covered, reference);
    listOf(events, pcr).push({ event, covered, isListed: isKnown, isAfterSeparator });
  }
  for (const pcr of SEPARATED_PCRS) {
    if (!separated.has(pcr)) violations.push({ reason: 'separator_missing', pcr, expected: 'EV_SEPARATOR 00000000' });
  }
  const { unloggedActions } = log;
  return { boot: { bank, events: (pcr) => events.get(pcr) ?? [], unloggedActions }, violations };
}

function dataProblem(event: MeasuredEvent, malformed: ReadonlySet<number>): string | undefined {
  if (malformed.has(event.index)) return 'event_data_malformed';
  return event.coverage === 'mismatch' ? 'event_data_not_measured' : undefined;
}

/** Reasons by digest. */
function forbiddenDigests(bank: HashAlgorithm, { dmaProtection }: StrictReference): ReadonlyMap<string, string> {
  const digests = new Map(OTHER_SEPARATORS.map((bytes) => [digestHex(bank, bytes), ERROR]));
  digests.set(digestHex(bank, Buffer.from(DEBUG_MODE)), 'uefi_debug_mode');
  if (dmaProtection === 'required') {
    digests.set(digestHex(bank, Buffer.from(NO_DMA_PROTECTION)), 'dma_protection_disabled');
  }
  return digests;
}

/** Whether it is a command of GRUB that a pattern of the reference state matches. */
function isAllowedCommand(
  event: MeasuredEvent,
  covered: CoveredData | undefined,
  { grubCommands }: StrictReference,
): boolean {
  if (covered?.kind !== 'grub_text' || grubCommands.length === 0) return false;
  const hint = hintData(event);
  return hint.kind === 'grub' && hint.role === 'command' && grubCommands.some(({ matches }) => matches(covered.text));
}

/** Digest of an action's text, in `bank`. */
export const actionDigest = (bank: HashAlgorithm, text: string): string => digestHex(bank, Buffer.from(text));

function listOf<K, V>(lists: Map<K, V[]>, key: K): V[] {
  const list = lists.get(key) ?? [];
  lists.set(key, list);
  return list;
}
