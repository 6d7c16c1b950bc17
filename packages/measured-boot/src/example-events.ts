import { digestHex, type HashAlgorithm } from '@keylime/core/digest';
import { type CoveredData, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { VARIABLE_GUIDS } from '@keylime/event-log/guid';
import { SEPARATED_PCRS } from './boot-pcrs.ts';
import type { ExampleReference } from './example-reference.ts';
import { AUTHORITIES, DECIDING_VARIABLES, type VariableRules, variableKey } from './example-variables.ts';
import { inBank } from './reference-values.ts';

/** What a boot turns out to have, for the comparison with firmware and kernels at its end. */
export type ExampleFindings = {
  readonly versions: MeasuredEvent[];
  readonly blobs: MeasuredEvent[];
  readonly images: MeasuredEvent[];
  readonly vmlinuz: MeasuredEvent[];
  readonly initrds: MeasuredEvent[];
  readonly commandLines: { readonly event: MeasuredEvent; readonly text: string }[];
  /** How often there was what has to be there, or may not be there often. */
  readonly counts: Map<string, number>;
};

export type JudgedEvent = {
  readonly event: MeasuredEvent;
  /** What the digest of the event covers; all that decides, where anything but the digest does. */
  readonly covered: CoveredData | undefined;
  readonly reference: ExampleReference;
  /** Digests of the reference state in the bank of the quote. */
  readonly known: KnownDigests;
  readonly findings: ExampleFindings;
};

export type KnownDigests = {
  /** By PCR. */
  readonly listed: ReadonlyMap<number, ReadonlySet<string>>;
  readonly MokList: ReadonlySet<string>;
  readonly MokListX: ReadonlySet<string>;
};

export const knownDigests = (bank: HashAlgorithm, { digests, mokList, mokListX }: ExampleReference): KnownDigests => ({
  listed: new Map(Array.from(digests, ([pcr, list]) => [pcr, inBank(list, bank)])),
  MokList: inBank(mokList, bank),
  MokListX: inBank(mokListX, bank),
});

/** A row of the table: what it finds wrong with an event, a reason, or nothing. */
type Rule = (judged: JudgedEvent) => string | undefined;

const any: Rule = () => undefined;

const atMost =
  (most: number, what: string): Rule =>
  ({ findings: { counts } }) => {
    const count = (counts.get(what) ?? 0) + 1;
    counts.set(what, count);
    return count > most ? 'event_repeated' : undefined;
  };

const collect =
  (into: 'versions' | 'blobs' | 'images'): Rule =>
  ({ event, findings }) => {
    findings[into].push(event);
    return undefined;
  };

/** Key in `counts` of what has to be there. */
export const separatorOf = (pcr: number): string => `separator of PCR ${pcr}`;

const separator: Rule = (judged) => {
  const { bank, digest, pcr } = judged.event;
  if (digest !== digestHex(bank, Buffer.alloc(4))) return 'separator_tells_error';
  return atMost(1, separatorOf(pcr))(judged);
};

const action =
  (...texts: readonly string[]): Rule =>
  ({ covered }) =>
    covered?.kind === 'text' && texts.includes(covered.text) ? undefined : 'action_unexpected';

const variable =
  (rules: VariableRules): Rule =>
  (judged) => {
    const { event, covered, reference } = judged;
    if (covered?.kind !== 'variable') return 'variable_unexpected';
    const key = variableKey(covered);
    const rule = rules.get(key);
    if (rule === undefined) return 'variable_unexpected';
    return atMost(1, `${event.type} ${key}`)(judged) ?? rule(covered, reference);
  };

const bootVariable: Rule = ({ event }) => {
  const hint = hintData(event);
  const isOne = hint.kind === 'variable' && hint.guid === VARIABLE_GUIDS.global;
  return isOne && /^(?:BootOrder|Boot[0-9a-fA-F]+)$/.test(hint.name) ? undefined : 'variable_unexpected';
};

/** Whether the reference state lists what PCR `pcr` may have, and this not. */
const isUnlisted = ({ event, known }: JudgedEvent): boolean => known.listed.get(event.pcr)?.has(event.digest) === false;

const grubText: Rule = (judged) => {
  const { event, covered, findings } = judged;
  const hint = hintData(event);
  if (covered?.kind !== 'grub_text' || hint.kind !== 'grub' || event.quirks.includes('grub_old_prefix')) {
    return 'grub_text_unexpected';
  }
  if (hint.role === 'kernel_cmdline') {
    findings.commandLines.push({ event, text: covered.text });
    return undefined;
  }
  return hint.role === 'module_cmdline' || isUnlisted(judged) ? 'grub_command_unexpected' : undefined;
};

/** The name of a file is a hint, by which the existing policy goes all the same. The first that fits counts. */
const grubFile: Rule = (judged) => {
  const { event, findings } = judged;
  const hint = hintData(event);
  const path = hint.kind === 'file' ? hint.path : '';
  if (/^.*\/(?:loader\/entries|grub).*$/.test(path)) return isUnlisted(judged) ? 'file_unexpected' : undefined;
  if (/^.*\/vmlinuz.*$/.test(path)) findings.vmlinuz.push(event);
  else if (/^.*\/(?:initrd|initramfs).*$/.test(path)) findings.initrds.push(event);
  else return 'file_unexpected';
  return undefined;
};

const shimVariable: Rule = (judged) => {
  const { event, known } = judged;
  const hint = hintData(event);
  const name = hint.kind === 'shim_variable' ? hint.name : '';
  if (name === 'MokListTrusted') return atMost(1, name)(judged);
  if (name !== 'MokList' && name !== 'MokListX') return 'event_unexpected';
  return known[name].has(event.digest) ? atMost(Number.POSITIVE_INFINITY, name)(judged) : 'mok_list_unexpected';
};

/** What may be in which PCR. Everything else is refused. */
const RULES: ReadonlyMap<string, Rule> = new Map<string, Rule>([
  ['0 EV_S_CRTM_VERSION', collect('versions')],
  ['0 EV_EFI_PLATFORM_FIRMWARE_BLOB', collect('blobs')],
  ['0 EV_EFI_PLATFORM_FIRMWARE_BLOB2', collect('blobs')],
  ['1 EV_CPU_MICROCODE', atMost(1, 'EV_CPU_MICROCODE')],
  ['1 EV_EFI_HANDOFF_TABLES', atMost(1, 'EV_EFI_HANDOFF_TABLES')],
  ['1 EV_EFI_HANDOFF_TABLES2', atMost(1, 'EV_EFI_HANDOFF_TABLES2')],
  ['1 EV_PLATFORM_CONFIG_FLAGS', atMost(4, 'EV_PLATFORM_CONFIG_FLAGS')],
  ['1 EV_EFI_VARIABLE_BOOT', bootVariable],
  ['1 EV_EFI_ACTION', action('Entering ROM Based Setup')],
  ['2 EV_EFI_BOOT_SERVICES_DRIVER', any],
  ['4 EV_EFI_BOOT_SERVICES_APPLICATION', collect('images')],
  [
    '4 EV_EFI_ACTION',
    action('Calling EFI Application from Boot Option', 'Returning from EFI Application from Boot Option'),
  ],
  ['5 EV_EFI_GPT_EVENT', atMost(1, 'EV_EFI_GPT_EVENT')],
  [
    '5 EV_EFI_ACTION',
    action(
      'Exit Boot Services Invocation',
      'Exit Boot Services Returned with Failure',
      'Exit Boot Services Returned with Success',
    ),
  ],
  ['7 EV_EFI_VARIABLE_DRIVER_CONFIG', variable(DECIDING_VARIABLES)],
  ['7 EV_EFI_VARIABLE_AUTHORITY', variable(AUTHORITIES)],
  ['8 EV_IPL', grubText],
  ['9 EV_IPL', grubFile],
  ['14 EV_IPL', shimVariable],
  ...SEPARATED_PCRS.map((pcr): [string, Rule] => [`${pcr} EV_SEPARATOR`, separator]),
]);

/** What is wrong with an event, if anything is. What the rest of the boot has to be compared with goes into `findings`. */
export function judgeEvent(judged: JudgedEvent): string | undefined {
  const { event } = judged;
  const rule = RULES.get(`${event.pcr} ${event.type}`);
  if (rule === undefined) return 'event_unexpected';
  return event.coverage === 'mismatch' ? 'event_data_not_measured' : rule(judged);
}
