import type { HashAlgorithm } from '@keylime/core/digest';
import { coveredData, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import { closest } from './alternatives.ts';
import { SEPARATED_PCRS } from './boot-pcrs.ts';
import { digestWords, shown, violationBy } from './event-words.ts';
import { type ExampleFindings, judgeEvent, knownDigests, separatorOf } from './example-events.ts';
import { decodeExampleReference, type ExampleKernel, type ExampleReference } from './example-reference.ts';
import { DECIDING_VARIABLES } from './example-variables.ts';
import { linuxCommandLine, loadsWith } from './grub-command.ts';
import type { BootViolation, MeasuredBootPolicy } from './policy.ts';
import type { Digests } from './reference-values.ts';

const GRUB_PCR = 8;

/**
 * The policy `example` of the existing verifier: virtual machines that boot with shim and GRUB. Its decisions are kept,
 * but data counts only where its digest covers it, and what Secure Boot is decided by has to be there.
 */
export const example: MeasuredBootPolicy<ExampleReference> = {
  name: 'example',
  decodeReference: decodeExampleReference,
  pcrs: [...SEPARATED_PCRS, GRUB_PCR, 9, 14],
  evaluate: judgeLikeExample,
};

function judgeLikeExample(log: VerifiedEventLog, reference: ExampleReference): readonly BootViolation[] {
  const findings: ExampleFindings = {
    ...{ versions: [], blobs: [], images: [], vmlinuz: [], initrds: [], commandLines: [] },
    counts: new Map(),
  };
  const violations: BootViolation[] = [];
  // [compat] One EV_NO_ACTION, the Spec ID event: a StartupLocality or a pointer to a manifest is one too many.
  for (const { index, pcr, type } of log.remarks.slice(1)) {
    violations.push({ reason: 'remark_unexpected', event: index, pcr, type });
  }
  for (const { index, problem } of log.problems) {
    violations.push({ reason: 'event_data_malformed', event: index, found: problem });
  }
  const known = knownDigests(log.bank, reference);
  for (const event of log.events) {
    const reason = judgeEvent({ event, covered: coveredData(event), reference, known, findings });
    if (reason !== undefined) violations.push(violationBy(event, reason, { found: digestWords(event) }));
  }
  return [
    ...violations,
    ...judgeMissing(findings, reference),
    ...judgeCommands(log.events),
    ...closest(reference.firmware.map((firmware) => judgeFirmware(log.bank, findings, firmware))),
    ...closest(reference.kernels.map((kernel) => judgeKernel(log.bank, findings, kernel, reference))),
  ];
}

/** What the existing policy does not ask for, so that a log could leave it out. */
function judgeMissing({ counts }: ExampleFindings, { mokList }: ExampleReference): readonly BootViolation[] {
  const wanted: BootViolation[] = [
    ...SEPARATED_PCRS.map((pcr) => ({ reason: 'event_missing', pcr, expected: separatorOf(pcr) })),
    ...Array.from(DECIDING_VARIABLES.keys(), (key) => ({
      ...{ reason: 'event_missing', pcr: 7, expected: `EV_EFI_VARIABLE_DRIVER_CONFIG ${key}` },
    })),
    ...(mokList.length > 0 ? [{ reason: 'event_missing', pcr: 14, expected: 'MokList' }] : []),
  ];
  return wanted.filter(({ expected }) => !counts.has(expected ?? ''));
}

/**
 * That every command of GRUB which loads a kernel is followed by the command line that the kernel got, and that this is
 * logged as one: so none passes as a command.
 */
function judgeCommands(events: readonly MeasuredEvent[]): readonly BootViolation[] {
  const texts = events.flatMap((event) => {
    const [data, hint] = [coveredData(event), hintData(event)];
    if (event.pcr !== GRUB_PCR || data?.kind !== 'grub_text' || hint.kind !== 'grub') return [];
    return [{ event, text: data.text, role: hint.role }];
  });
  return texts.flatMap(({ event, text }, i) => {
    const next = texts[i + 1];
    const isLine = next?.role === 'kernel_cmdline' && loadsWith(text, next.text);
    if (linuxCommandLine(text) === undefined || isLine) return [];
    const found = next === undefined ? 'nothing' : shown(next.text);
    return [violationBy(event, 'kernel_cmdline_hidden', { expected: 'its command line directly behind it', found })];
  });
}

type Firmware = ExampleReference['firmware'][number];

const judgeFirmware = (
  bank: HashAlgorithm,
  { versions, blobs }: ExampleFindings,
  firmware: Firmware,
): readonly BootViolation[] => [
  ...judgeSequence('firmware_version', versions, [firmware.scrtm], bank),
  ...judgeSequence('firmware', blobs, firmware.blobs, bank),
];

function judgeKernel(
  bank: HashAlgorithm,
  { images, vmlinuz, initrds, commandLines }: ExampleFindings,
  kernel: ExampleKernel,
  { secureBoot }: ExampleReference,
): readonly BootViolation[] {
  const [last] = kernel.images.slice(-1);
  // The kernel is measured by shim, and again by the firmware if GRUB has it started by that.
  const isTwice = secureBoot && last !== undefined && images.length === kernel.images.length + 1;
  return [
    ...judgeSequence('image', images, isTwice ? [...kernel.images, last] : kernel.images, bank),
    ...judgeSequence('initrd', initrds, [kernel.initrd], bank),
    ...judgeSequence('vmlinuz', vmlinuz, [kernel.vmlinuz], bank),
    ...judgeCommandLine(commandLines, kernel),
  ];
}

/** Demands exactly `wanted`, in order; anything where it is `undefined`. */
function judgeSequence(
  what: string,
  events: readonly MeasuredEvent[],
  wanted: readonly (Digests | undefined)[],
  bank: HashAlgorithm,
): readonly BootViolation[] {
  const violations: BootViolation[] = [];
  for (const [i, event] of events.entries()) {
    const digests = wanted[i];
    if (i < wanted.length && (digests === undefined || digests.get(bank) === event.digest)) continue;
    const expected = i < wanted.length ? (digests?.get(bank) ?? `a digest of ${bank}`) : 'nothing more';
    violations.push(violationBy(event, `${what}_unexpected`, { expected, found: digestWords(event) }));
  }
  for (const digests of wanted.slice(events.length)) {
    violations.push({ reason: `${what}_missing`, expected: digests?.get(bank) ?? `a digest of ${bank}` });
  }
  return violations;
}

function judgeCommandLine(
  lines: ExampleFindings['commandLines'],
  { commandLine }: ExampleKernel,
): readonly BootViolation[] {
  const expected = commandLine?.source ?? '';
  if (lines.length === 0) return [{ reason: 'kernel_cmdline_missing', pcr: GRUB_PCR, expected }];
  return lines
    .filter(({ text }, i) => i > 0 || !commandLine?.matches(text))
    .map(({ event, text }) => violationBy(event, 'kernel_cmdline_unexpected', { expected, found: shown(text) }));
}
