import { hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { shown, violationBy } from './event-words.ts';
import { loadsWith } from './grub-command.ts';
import type { BootViolation } from './policy.ts';
import type { StrictBoot, StrictEvent } from './strict-boot.ts';
import type { StrictKernel } from './strict-kernel.ts';

/** A command line that a boot loader passed to the kernel; its digest covers the text. */
export type CommandLine = {
  readonly event: MeasuredEvent;
  readonly text: string;
  /** The command before it that has to have loaded the kernel with it; `undefined` where systemd passed it. */
  readonly command: string | undefined;
};

/** GRUB's are in PCR 8, as are those of systemd-boot before 251; systemd's in PCR 12. */
const COMMAND_LINE_PCRS: readonly number[] = [8, 12];

/** More are events that nothing explains: such a log is wrong already, and not worth the time that matching takes. */
const MOST_LINES = 16;

/**
 * The command lines of a boot, without events that are known by their digest. That an event is one is a hint, and is
 * believed because every other event has to be known.
 */
export const findCommandLines = (boot: StrictBoot, isKnown: (each: StrictEvent) => boolean): readonly CommandLine[] =>
  COMMAND_LINE_PCRS.flatMap((pcr) =>
    boot.events(pcr).flatMap((each, i, events): CommandLine[] => {
      const { event, covered } = each;
      if (isKnown(each)) return [];
      if (covered?.kind === 'load_options') return [{ event, text: covered.text, command: undefined }];
      const hint = hintData(event);
      if (covered?.kind !== 'grub_text' || hint.kind !== 'grub' || hint.role !== 'kernel_cmdline') return [];
      const before = events[i - 1]?.covered;
      return [{ event, text: covered.text, command: before?.kind === 'grub_text' ? before.text : '' }];
    }),
  ).slice(0, MOST_LINES);

/** Demands one command line, as often as it is measured, which the pattern matches; or none where there is no pattern. */
export function judgeCommandLines(
  lines: readonly CommandLine[],
  { commandLine }: StrictKernel,
): readonly BootViolation[] {
  const expected = commandLine?.source ?? 'no command line';
  const first = lines.find(({ text }) => commandLine?.matches(text));
  const violations = lines
    .filter(({ text }) => text !== first?.text)
    .map(({ event, text }) => violationBy(event, 'kernel_cmdline_unexpected', { expected, found: shown(text) }));
  for (const { event, text, command } of lines) {
    if (command === undefined || loadsWith(command, text)) continue;
    const words = { expected: 'the command that loads a kernel with it, directly before it', found: shown(command) };
    violations.push(violationBy(event, 'kernel_cmdline_without_command', words));
  }
  if (commandLine !== undefined && lines.length === 0) violations.push({ reason: 'kernel_cmdline_missing', expected });
  return violations;
}

/** The prefix with which GRUB tells the kernel which file it is. */
const IMAGE_PREFIX = 'BOOT_IMAGE=';

/** What Linux's stub measures of a command line as load options: UTF-16LE, with its NUL or without it. */
export const loadOptionsOf = ({ text }: CommandLine): readonly Buffer[] =>
  [text, `${IMAGE_PREFIX}${text}`].flatMap((line) => [
    Buffer.from(`${line}\0`, 'utf16le'),
    Buffer.from(line, 'utf16le'),
  ]);
