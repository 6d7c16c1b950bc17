import type { EventLog, EventProblem } from '@keylime/event-log/event';
import { replayEventLog } from '@keylime/event-log/replay';
import { type Cell, type Paint, tableLines } from '../table.ts';
import { readBootChain } from './boot-chain.ts';
import { type EventRow, eventRow, problemLine } from './event-row.ts';
import { type EventView, viewEvents } from './event-view.ts';
import { eventWords } from './event-words.ts';
import { type SecureBootSummary, summarizeSecureBoot } from './secure-boot.ts';

/** All that `show event-log` tells, as JSON. Digests and PCR values in lower-case hex. */
export type EventLogReport = {
  readonly format: EventLog['format'];
  readonly banks: readonly string[];
  readonly events: readonly EventRow[];
  readonly secureBoot: {
    readonly enabled: boolean | null;
    readonly databases: {
      readonly [name: string]: { readonly certificates: readonly string[]; readonly hashes: number };
    };
    readonly authorities: SecureBootSummary['authorities'];
    readonly sbatLevel: string | null;
  };
  readonly bootChain: readonly ChainLink[];
  /** By bank and index: what the PCRs are after this log. */
  readonly pcrs: { readonly [bank: string]: { readonly [index: string]: string } };
  readonly problems: readonly EventProblem[];
};

/** One step of the boot. `digests` by bank; for a covered command line they are of the line itself. */
export type ChainLink = {
  readonly role:
    | 'shim'
    | 'boot_loader'
    | 'unified_kernel'
    | 'kernel'
    | 'kernel_file'
    | 'initrd'
    | 'section'
    | 'command_line';
  readonly index: number;
  readonly what: string;
  readonly covered: boolean;
  readonly digests: { readonly [bank: string]: string };
};

export function reportEventLog(log: EventLog): EventLogReport {
  const views = viewEvents(log);
  const { enabled, databases, authorities, sbatLevel } = summarizeSecureBoot(views);
  const pcrs = Array.from(replayEventLog(log), ([bank, values]) => [
    bank,
    Object.fromEntries(Array.from(values, ([pcr, value]) => [String(pcr), value.toString('hex')])),
  ]);
  return {
    format: log.format,
    banks: log.banks,
    events: views.map(eventRow),
    secureBoot: {
      enabled: enabled ?? null,
      databases: Object.fromEntries(databases),
      authorities,
      sbatLevel: sbatLevel ?? null,
    },
    bootChain: chainLinks(views),
    pcrs: Object.fromEntries(pcrs),
    problems: log.problems,
  };
}

function chainLinks(views: readonly EventView[]): readonly ChainLink[] {
  const { images, kernelFiles, initrdFiles, stubInitrds, commandLines, sections } = readBootChain(views);
  const link = (
    role: ChainLink['role'],
    { event, measured }: EventView,
    what: string,
    covered: boolean,
  ): ChainLink => ({
    role,
    index: event.index,
    what,
    covered,
    digests: Object.fromEntries(Array.from(measured, ([bank, { digest }]) => [bank, digest])),
  });
  const links = [
    ...images.map(({ role, event }) => link(role, event, eventWords(event.event), false)),
    ...kernelFiles.map((event) => link('kernel_file', event, eventWords(event.event), false)),
    ...[...initrdFiles, ...stubInitrds].map((event) => link('initrd', event, eventWords(event.event), false)),
    ...sections.map(({ name, event }) => link('section', event, name, event.coverage === 'text')),
    ...commandLines.map(({ event, text, covered }) =>
      link('command_line', event, text ?? 'only its digest is in the log', covered),
    ),
  ];
  return links.sort((a, b) => a.index - b.index);
}

/** The report for a person, without characters that a terminal obeys but for the colours of `paint`. */
export function eventLogLines(report: EventLogReport, paint: Paint, showPcrs: boolean): readonly string[] {
  const { banks, events, secureBoot, bootChain, pcrs, problems } = report;
  const header: Cell[] = ['INDEX', 'PCR', 'TYPE', 'DATA', ...banks.map((bank) => bank.toUpperCase()), 'WHAT'];
  const rows = events.map((row): Cell[] => [
    String(row.index),
    row.pcr > 0xffff ? '-' : String(row.pcr),
    row.type === 'unknown' ? `0x${row.typeId.toString(16)}` : row.type,
    { text: row.data.replace('_', ' '), style: DATA_STYLES[row.data] },
    ...banks.map((bank): Cell => {
      const check = row.digests[bank]?.check ?? 'absent';
      return { text: CHECK_WORDS[check], style: check === 'mismatch' ? 'bad' : 'plain' };
    }),
    limited(row.what),
  ]);
  const chain = bootChain.map(({ role, index, what, covered, digests }): Cell[] => {
    const digest = digests.sha256 ?? Object.values(digests)[0] ?? '';
    const evidence = covered && role === 'command_line' ? 'covered' : digest;
    return [role.replace('_', ' '), `event ${index}`, evidence, limited(what)];
  });
  return [
    ...tableLines([header, ...rows], paint),
    '',
    ...secureBootLines(secureBoot, paint),
    '',
    'Boot chain (names are hints, digests count):',
    ...(chain.length > 0 ? tableLines(chain, paint) : ['nothing that a boot loader or the firmware started']),
    ...(showPcrs ? Object.entries(pcrs).flatMap(([bank, values]) => ['', ...pcrLines(bank, values)]) : []),
    '',
    problems.length === 0
      ? `${events.length} events, no problems`
      : paint('bad', `${events.length} events, ${problems.length} problems:`),
    ...problems.map((problem) => paint('bad', limited(problemLine(problem)))),
  ];
}

const DATA_STYLES = {
  covered: 'good',
  value_covered: 'good',
  text_covered: 'good',
  hint: 'doubtful',
  mismatch: 'bad',
  remark: 'doubtful',
} as const;

const CHECK_WORDS = { covered: 'ok', mismatch: 'WRONG', other: 'other', absent: '-' } as const;

/** UTF-16 units of a text that are shown; JSON has all. */
const MOST_TEXT = 400;
const limited = (text: string): string => (text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}...` : text);

function secureBootLines(secureBoot: EventLogReport['secureBoot'], paint: Paint): readonly string[] {
  const { enabled, databases, authorities, sbatLevel } = secureBoot;
  const state =
    enabled === null
      ? paint('bad', 'unknown: no covered event tells it')
      : enabled
        ? paint('good', 'on')
        : paint('bad', 'off');
  return [
    `Secure Boot: ${state}`,
    ...[
      ...Object.entries(databases).map(([name, { certificates, hashes }]) => {
        const keys = [...certificates, ...(hashes > 0 ? [hashes === 1 ? '1 hash' : `${hashes} hashes`] : [])];
        return `  ${name}: ${keys.map(limited).join('; ') || 'empty'}`;
      }),
      ...authorities.map(({ variable, name }) => `  authority ${variable}: ${limited(name)}`),
      ...(sbatLevel === null ? [] : [`  SbatLevel: ${limited(sbatLevel.trim().replaceAll('\n', '; '))}`]),
    ].map((line) => paint('plain', line)),
  ];
}

const pcrLines = (bank: string, values: { readonly [index: string]: string }): readonly string[] => [
  `PCRs of ${bank} after this log:`,
  ...Object.entries(values).map(([index, value]) => `  ${index.padStart(2)} ${value}`),
];
