import type { HashAlgorithm } from '@keylime/core/digest';
import { type Paint, tableLines } from '../table.ts';
import { hasDigest, type LogEdit } from './log-edit.ts';
import type { Prediction } from './predict.ts';
import { phasePcrs, sectionsPcr, type UnifiedKernel } from './unified-kernel.ts';

type PcrValues = { readonly [pcr: string]: string };

/** All that `predict` tells, as JSON. Values in lower-case hex. */
export type PredictionReport = {
  readonly banks: readonly string[];
  /** By bank: the PCRs that the update changes, what they are now and what they will be. */
  readonly changed: {
    readonly [bank: string]: { readonly [pcr: string]: { readonly now: string; readonly then: string } };
  };
  /** By bank: all PCRs of the log as they will be, but for the unknown ones. */
  readonly pcrs: { readonly [bank: string]: PcrValues };
  /** By bank and phase, as systemd-measure names them: PCR 11 while user space extends it. */
  readonly phases: { readonly [bank: string]: PcrValues };
  /** PCRs that cannot be told, and why. */
  readonly unknown: PcrValues;
  readonly events: readonly EventReport[];
  readonly notes: readonly string[];
};

/** An event that will be another one; `index` is that of now, absent for a new one. */
export type EventReport = {
  readonly index?: number;
  readonly pcr: number;
  readonly what: string;
  readonly digests: { readonly [bank: string]: string };
};

const SECTION_PCR = 11;

export function reportPrediction(
  { edit, current, expected }: Prediction,
  unified: UnifiedKernel | undefined,
): PredictionReport {
  const known = (pcr: number) => !edit.unknown.has(pcr);
  const banks = [...expected.keys()];
  const pcrs = banks.map((bank): [string, PcrValues] => [
    bank,
    Object.fromEntries(
      Array.from(expected.get(bank) ?? []).flatMap(([pcr, value]) =>
        known(pcr) ? [[pcr, value.toString('hex')]] : [],
      ),
    ),
  ]);
  const changed = pcrs.map(([bank, values]) => {
    const before = current.get(bank as HashAlgorithm);
    const entries = Object.entries(values).flatMap(([pcr, then]) => {
      const now = before?.get(Number(pcr))?.toString('hex') ?? '';
      return now === then ? [] : [[pcr, { now, then }] as const];
    });
    return [bank, Object.fromEntries(entries)] as const;
  });
  const phases =
    unified === undefined ? [] : banks.map((bank) => [bank, phasesOf(expected.get(bank)?.get(SECTION_PCR), bank)]);
  return {
    banks,
    changed: Object.fromEntries(changed),
    pcrs: Object.fromEntries(pcrs),
    phases: Object.fromEntries(phases),
    unknown: Object.fromEntries(edit.unknown),
    events: eventReports(edit),
    notes: edit.notes,
  };
}

/** The report of a unified kernel image alone, where there is no log of a boot from one. */
export function reportUnifiedKernel(unified: UnifiedKernel, banks: readonly HashAlgorithm[]): PredictionReport {
  const pcrs = banks.map((bank) => [bank, { [SECTION_PCR]: sectionsPcr(unified, bank).toString('hex') }]);
  const phases = banks.map((bank) => [bank, phasesOf(sectionsPcr(unified, bank), bank)]);
  return {
    banks,
    changed: {},
    pcrs: Object.fromEntries(pcrs),
    phases: Object.fromEntries(phases),
    unknown: {},
    events: [],
    notes: [],
  };
}

const phasesOf = (value: Buffer | undefined, bank: HashAlgorithm): PcrValues =>
  value === undefined
    ? {}
    : Object.fromEntries(Array.from(phasePcrs(value, bank), ([phase, each]) => [phase, each.toString('hex')]));

/** Events that get other digests, come or go, by PCR. */
function eventReports({ changes, added, removed, log }: LogEdit): readonly EventReport[] {
  const changed = changes.flatMap(({ event, what, digests }) =>
    hasDigest(event, (bank) => digests.get(bank) ?? Buffer.alloc(0))
      ? []
      : [{ index: event.index, pcr: event.pcr, what, digests: hexes(digests) }],
  );
  const gone = log.events
    .filter(({ index }) => removed.has(index))
    .map(({ index, pcr }) => ({ index, pcr, what: 'no longer', digests: {} }));
  const new_ = added.map(({ event, what }) => ({ pcr: event.pcr, what, digests: hexes(event.digests) }));
  return [...changed, ...gone, ...new_].sort((a, b) => a.pcr - b.pcr);
}

const hexes = (digests: ReadonlyMap<string, Uint8Array> | undefined): PcrValues =>
  Object.fromEntries(Array.from(digests ?? [], ([bank, value]) => [bank, Buffer.from(value).toString('hex')]));

/** The report for a person. */
export function predictionLines(report: PredictionReport, paint: Paint): readonly string[] {
  const { banks, changed, pcrs, phases, unknown, events, notes } = report;
  const isOfLog = Object.keys(changed).length > 0;
  const rows = events.map(({ index, pcr, what, digests }) => [
    `PCR ${pcr}`,
    index === undefined ? 'new' : `event ${index}`,
    digests.sha256 ?? Object.values(digests)[0] ?? '',
    what,
  ]);
  return [
    ...(rows.length > 0 ? ['Events that change:', ...tableLines(rows, paint), ''] : []),
    ...banks.flatMap((bank) => {
      const values = isOfLog ? thenOf(changed[bank] ?? {}) : (pcrs[bank] ?? {});
      const lines = Object.entries(values).map(([pcr, value]) => `  ${pcr.padStart(2)} ${value}`);
      for (const [phase, value] of Object.entries(phases[bank] ?? {})) {
        lines.push(`  ${SECTION_PCR} ${value} after ${phase.split(':').at(-1)}`);
      }
      return lines.length > 0 ? [isOfLog ? `PCRs of ${bank} that change:` : `PCRs of ${bank}:`, ...lines] : [];
    }),
    ...(rows.length > 0 || !isOfLog ? [] : ['No event changes: this is what the log has already']),
    ...Object.entries(unknown).map(([pcr, why]) => paint('bad', `PCR ${pcr} is unknown: ${why}`)),
    ...notes.map((note) => paint('doubtful', `Note: ${note}`)),
  ];
}

const thenOf = (changed: { readonly [pcr: string]: { readonly then: string } }): PcrValues =>
  Object.fromEntries(Object.entries(changed).map(([pcr, { then }]) => [pcr, then]));
