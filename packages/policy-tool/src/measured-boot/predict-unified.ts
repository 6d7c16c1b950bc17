import { hintData } from '@keylime/event-log/coverage';
import { encodeNumber, encodeUtf16 } from '@keylime/event-log/encode-data';
import type { BootEvent } from '@keylime/event-log/event';
import { EVENT_TYPES } from '@keylime/event-log/event-type';
import type { BootChain } from './boot-chain.ts';
import type { KernelUpdate } from './kernel-update.ts';
import { changeEvent, hasDigest, hashOf, type LogEdit } from './log-edit.ts';
import { authenticodeDigest, parsePeImage } from './pe-image.ts';
import { changeLoadOptions, changeStubCommandLine } from './predict-stub.ts';
import type { UnifiedKernel } from './unified-kernel.ts';

const SECTION_PCR = 11;

/** What firmware, systemd-stub and Linux's stub measure of a unified kernel image that takes the place of one. */
export function predictUnified(edit: LogEdit, chain: BootChain, update: KernelUpdate, next: UnifiedKernel): void {
  for (const { role, event } of chain.images) {
    if (role === 'unified_kernel') {
      changeEvent(edit, event.event, 'unified kernel image', (bank) => authenticodeDigest(next.image, bank));
    } else if (role === 'kernel') {
      const linux = parsePeImage(next.content('.linux') ?? Buffer.alloc(0), 'the section .linux');
      changeEvent(edit, event.event, 'kernel of the image', (bank) => authenticodeDigest(linux, bank));
    }
  }
  changeProfile(edit, next);
  changeSections(edit, chain, next);
  changeInitrd(edit, chain, next);
  changeCommandLine(edit, chain, update, next);
}

const PROFILE_PCR = 12;
const PROFILE_TAG = 0x13aed6db;

/** systemd-stub measures the number of a profile other than the first, before any other thing (systemd 257, measure_profile). */
function changeProfile(edit: LogEdit, { profile }: UnifiedKernel): void {
  const number = encodeUtf16(`${profile}\0`);
  const data = Buffer.concat([encodeNumber(PROFILE_TAG, 4), encodeNumber(number.length, 4), number]);
  const now = edit.log.events.find((event) => {
    const hint = hintData(event);
    return hint.kind === 'tag' && hint.meaning === 'systemd_uki_profile';
  });
  if (now !== undefined && profile === 0) edit.removed.add(now.index);
  else if (now !== undefined) changeEvent(edit, now, `profile ${profile}`, hashOf(number), data);
  else if (profile > 0 && edit.log.events.some(({ pcr }) => pcr === PROFILE_PCR)) {
    edit.unknown.set(
      PROFILE_PCR,
      'whether the number of the profile is measured before or after what the log has cannot be told',
    );
  } else if (profile > 0) {
    const { banks, events } = edit.log;
    const digests = new Map(banks.map((bank) => [bank, hashOf(number)(bank)]));
    const event = { pcr: PROFILE_PCR, type: EVENT_TYPES.EV_EVENT_TAG, data, digests };
    edit.added.push({ after: events.length - 1, event, what: `profile ${profile}` });
  }
}

/** Puts the sections of `next` in the place of those that the log has. */
function changeSections(edit: LogEdit, chain: BootChain, next: UnifiedKernel): void {
  const first = chain.sections[0]?.event.event.index;
  if (first === undefined) return;
  for (const { event } of chain.sections) edit.removed.add(event.event.index);
  const { banks } = edit.log;
  for (const { name, content } of next.measured) {
    const event = { pcr: SECTION_PCR, type: EVENT_TYPES.EV_IPL, data: encodeUtf16(`${name}\0`) };
    for (const [measured, what] of [
      [Buffer.from(`${name}\0`), `name of section ${name}`],
      [content, `section ${name}`],
    ] as const) {
      const digests = new Map(banks.map((bank) => [bank, hashOf(measured)(bank)]));
      edit.added.push({ after: first, event: { ...event, digests }, what });
    }
  }
}

/** The initrd that Linux's stub gets is that of the image, unless systemd-stub adds files of its own. */
function changeInitrd(edit: LogEdit, chain: BootChain, next: UnifiedKernel): void {
  const initrd = next.content('.initrd');
  const current = contentEvent(chain, '.initrd');
  for (const { event } of chain.stubInitrds) {
    const isOfImage = current !== undefined && sameDigests(current, event);
    if (initrd !== undefined && isOfImage && !next.addsFiles) {
      changeEvent(edit, event, 'initrd of the image', hashOf(initrd));
    } else {
      edit.unknown.set(
        9,
        'systemd-stub adds files to the initrd of the image: what Linux measures of it cannot be told',
      );
    }
  }
}

function changeCommandLine(edit: LogEdit, chain: BootChain, update: KernelUpdate, next: UnifiedKernel): void {
  const { commandLine, currentCommandLine } = update;
  const passed = chain.commandLines.filter(({ text }) => text !== undefined);
  if (commandLine !== undefined && passed.length === 0) {
    edit.unknown.set(12, 'nobody passes a command line to the image now: who will measure the new one cannot be told');
  }
  const current = contentEvent(chain, '.cmdline');
  const embedded = next.content('.cmdline');
  const now = passed.at(-1)?.text;
  // systemd-boot passes the command line that is in the image on to it.
  const isOfImage = now !== undefined && current !== undefined && isTextOf(current, now);
  if (commandLine === undefined && now !== undefined && !isOfImage) return;
  if (
    commandLine === undefined &&
    embedded !== undefined &&
    current !== undefined &&
    hasDigest(current, hashOf(embedded))
  ) {
    return;
  }
  const text = commandLine ?? (embedded === undefined ? '' : textOf(embedded));
  for (const { event } of passed) changeLoadOptions(edit, event, text);
  changeStubCommandLine(edit, chain, now ?? currentCommandLine, text);
}

/** The text of a section without what ends it. */
const textOf = (content: Buffer): string => content.toString('utf8').replace(/[\n\0]+$/, '');

/** Whether a section has `text`, and perhaps the end of a line or of a string. */
const isTextOf = (section: BootEvent, text: string): boolean =>
  ['', '\n', '\0', '\n\0'].some((end) => hasDigest(section, hashOf(Buffer.from(text + end))));

/** The event of the content of a section, which has the same data as that of its name. */
const contentEvent = (chain: BootChain, section: string): BootEvent | undefined =>
  chain.sections.find(({ name, event }) => name === section && event.coverage !== 'text')?.event.event;

const sameDigests = (one: BootEvent, other: BootEvent): boolean =>
  Array.from(one.digests).every(([bank, hex]) => other.digests.get(bank) === hex);
