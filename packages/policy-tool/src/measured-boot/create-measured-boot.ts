import type { EventLog } from '@keylime/event-log/event';
import type { BootViolation, MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import type { StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import type { Log } from '@keylime/service/log';
import { ToolError } from '../tool-error.ts';
import { readBootChain } from './boot-chain.ts';
import { viewEvents } from './event-view.ts';
import { eventWords } from './event-words.ts';
import { exampleShape } from './example-shape.ts';
import { judgeReference } from './judge-reference.ts';
import { mergeReferences } from './merge-references.ts';
import type { Prediction } from './predict.ts';
import { digestsByPcr, openSource, type ReferenceSource } from './reference-source.ts';
import { type ReferenceOptions, referenceOf } from './reference-state.ts';

/** A boot that a reference state is to accept. `name` is for messages. */
export type NamedLog = { readonly name: string; readonly log: EventLog };

export type CreateOptions = ReferenceOptions & {
  readonly policy: MeasuredBootPolicy;
  /** Indexes of events that are known by their digest, although no rule would accept them. */
  readonly listed: readonly number[];
  /** Makes a reference state by which the policy refuses a boot all the same. */
  readonly force: boolean;
  /** What the reference state is added to. */
  readonly base: StrictReferenceJson | undefined;
};

/**
 * One reference state for the boots of all `logs`. What no member but `digests` is about is listed by its digest, and then
 * the policy judges each boot: what it would refuse is told, and is an error.
 * @throws ToolError `log_unsuitable`, `reference_invalid`, `boot_not_accepted`
 */
export function createMeasuredBoot(logs: readonly NamedLog[], options: CreateOptions, log: Log): StrictReferenceJson {
  const { policy, banks, force, base } = options;
  const made = logs.map((each) => {
    const source = openSource(each.log, banks);
    warn(source, each.name, log);
    const reference = completed(referenceOf(source, options), source, options);
    tellListed(reference, each.name, log);
    if (policy.name === 'strict') tellLeftOpen(reference, each.name, log);
    return reference;
  });
  const all = [...(base === undefined ? [] : [base]), ...made];
  const reference = all.reduce((first, second) => mergeReferences(first, second, (text) => log.warn(text)));
  let refused = 0;
  for (const each of logs) {
    for (const bank of banks) {
      for (const violation of judgeReference(policy, reference, each.log, bank)) {
        refused++;
        log.error(`${each.name}: ${bank}: ${violationLine(violation, each.log)}`);
      }
    }
  }
  if (refused > 0 && !force) {
    const boots = logs.length === 1 ? 'the boot' : 'boots';
    const reasons = refused === 1 ? 'one reason' : `${refused} reasons`;
    throw new ToolError(
      'boot_not_accepted',
      `By what was made of it, the policy ${policy.name} would refuse ${boots} for ${reasons}: nothing is written. ` +
        'See the events with `keylime-policy show event-log`. --list takes an event by its digest, --optional does without ' +
        'a requirement, --force writes all the same',
    );
  }
  return reference;
}

/**
 * `base` with the boot that is expected after an update as another alternative.
 * @throws ToolError `log_unsuitable` if a PCR of that boot is unknown, `boot_not_accepted`
 */
export function addPrediction(
  base: StrictReferenceJson,
  { edit, log: expected }: Prediction,
  options: Omit<CreateOptions, 'base' | 'withoutSecureBoot'>,
  log: Log,
): StrictReferenceJson {
  const [unknown] = edit.unknown;
  if (unknown !== undefined) {
    const [pcr, why] = unknown;
    throw new ToolError(
      'log_unsuitable',
      `No reference state can be made of a boot whose PCR ${pcr} is unknown: ${why}`,
    );
  }
  const all = { ...options, base, withoutSecureBoot: base.has_secureboot === false };
  return createMeasuredBoot([{ name: 'The expected boot', log: expected }], all, log);
}

/** A reference state as the text of a file. */
export const referenceText = (reference: StrictReferenceJson): string => `${JSON.stringify(reference, undefined, 2)}\n`;

/** The reason of a violation by an event that no rule is about. */
const UNEXPLAINED = 'event_unexpected';

/** `reference` with the events that nothing else explains, and those that the operator lists. */
function completed(
  reference: StrictReferenceJson,
  source: ReferenceSource,
  { policy, banks, listed }: CreateOptions,
): StrictReferenceJson {
  if (policy.name === 'example') return exampleShape(reference);
  const [bank = 'sha256'] = banks;
  // The firmware's own applications are no part of a kernel's chain.
  const { firmwareApplications } = readBootChain(viewEvents(source.log));
  const unexplained = new Set([...listed, ...firmwareApplications.map(({ event }) => event.index)]);
  for (const { reason, event } of judgeReference(policy, reference, source.log, bank)) {
    if (event !== undefined && reason === UNEXPLAINED) unexplained.add(event);
  }
  const digests = digestsByPcr(
    source.events.filter(({ index }) => unexplained.has(index)),
    source,
  );
  return Object.keys(digests).length === 0 ? reference : { ...reference, digests };
}

/** Tells how many events are known by their digests only: machines that differ in them have a reference state each. */
function tellListed({ digests = {} }: StrictReferenceJson, name: string, log: Log): void {
  const counts = Object.entries(digests).map(([pcr, list]) => `${list.length} of PCR ${pcr}`);
  if (counts.length > 0) log.info(`${name}: events that are listed by their digests: ${counts.join(', ')}`);
}

/** Tells what the log says nothing of, so that nothing is demanded. */
function tellLeftOpen({ has_secureboot, authorities, sbat_level }: StrictReferenceJson, name: string, log: Log): void {
  if (!has_secureboot) {
    log.warn(`${name}: Secure Boot is off, nobody checked a signature: authorities and sbat_level are left open`);
    return;
  }
  if (authorities === undefined) {
    log.warn(`${name}: no event tells who signed the images: authorities are left open; db, vendor_db and shim decide`);
  }
  if (sbat_level === undefined) {
    log.warn(`${name}: shim measured no SbatLevel, or there is no shim: sbat_level is left open; older shims pass`);
  }
}

/** Tells events whose data is not what was measured: they are forged, or the firmware is wrong; nothing is taken from them. */
function warn({ events }: ReferenceSource, name: string, log: Log): void {
  for (const event of events) {
    if (event.coverage !== 'mismatch') continue;
    log.warn(
      `${name}: the data of event ${event.index} (${event.type}, PCR ${event.pcr}) is not what was measured; it is not used`,
    );
  }
}

function violationLine({ reason, event, pcr, expected, found }: BootViolation, { events }: EventLog): string {
  const boot = event === undefined ? undefined : events[event];
  const place =
    boot === undefined ? `PCR ${pcr ?? '-'}` : `event ${event} (${boot.type}, PCR ${boot.pcr}: ${eventWords(boot)})`;
  return [
    `${place}: ${reason.replaceAll('_', ' ')}`,
    ...(expected === undefined ? [] : [`expected ${expected}`]),
    ...(found === undefined ? [] : [`found ${found}`]),
  ].join(', ');
}
