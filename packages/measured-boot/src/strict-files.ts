import { digestHex } from '@keylime/core/digest';
import { hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { digestWords, violationBy } from './event-words.ts';
import type { BootViolation } from './policy.ts';
import type { StrictBoot, StrictEvent } from './strict-boot.ts';
import { type CommandLine, loadOptionsOf } from './strict-command-line.ts';
import { LISTED } from './strict-firmware.ts';
import type { StrictKernel } from './strict-kernel.ts';

const FILE_PCR = 9;

type FileKind = 'vmlinuz' | 'initrd' | 'load_options' | 'file';

/**
 * PCR 9, the files that GRUB read and what Linux's stub was given: each known by its digest, those of the kernel all there.
 * What an event says that it is decides the words of a violation, nothing else.
 */
export function judgeFiles(
  boot: StrictBoot,
  kernel: StrictKernel,
  lines: readonly CommandLine[],
  isKnown: (each: StrictEvent) => boolean,
): readonly BootViolation[] {
  const { bank } = boot;
  const wanted = new Map<FileKind, string>(
    kernel.files.map(({ name, digests }) => [name, digests.get(bank) ?? `a digest of ${bank}`]),
  );
  const { loadOptions } = kernel;
  if (loadOptions !== undefined) wanted.set('load_options', loadOptions.get(bank) ?? `a digest of ${bank}`);
  const expected = new Set(wanted.values());
  // The kernel was given the command line that is judged already.
  const passedOn = new Set(lines.flatMap((line) => loadOptionsOf(line).map((bytes) => digestHex(bank, bytes))));

  const events = boot.events(FILE_PCR);
  const there = new Set(events.map(({ event }) => event.digest));
  const replaced = new Set<FileKind>();
  const violations: BootViolation[] = [];
  for (const each of events) {
    const { event } = each;
    if (isKnown(each) || expected.has(event.digest)) continue;
    const kind = fileKind(event);
    if (kind === 'load_options' && passedOn.has(event.digest)) continue;
    replaced.add(kind);
    const words = { expected: wanted.get(kind) ?? LISTED, found: digestWords(event) };
    violations.push(violationBy(event, `${kind}_unexpected`, words));
  }
  for (const [kind, digest] of wanted) {
    if (there.has(digest) || replaced.has(kind)) continue;
    violations.push({ reason: `${kind}_missing`, pcr: FILE_PCR, expected: digest });
  }
  return violations;
}

function fileKind(event: MeasuredEvent): FileKind {
  const hint = hintData(event);
  if (hint.kind === 'tag' && hint.meaning === 'linux_load_options') return 'load_options';
  if (hint.kind === 'tag' && hint.meaning === 'linux_initrd') return 'initrd';
  if (hint.kind !== 'file') return 'file';
  if (/initrd|initramfs/.test(hint.path)) return 'initrd';
  return /vmlinuz/.test(hint.path) ? 'vmlinuz' : 'file';
}
