import { digest, digestSize, extend, type HashAlgorithm } from '@keylime/core/digest';
import { ToolError } from '../tool-error.ts';
import { type PeImage, type PeSection, sectionContent } from './pe-image.ts';

/**
 * Sections that systemd-stub measures into PCR 11, in the order in which it does, wherever they are in the file, with the
 * release of systemd that knew them first. `.pcrsig` is missing on purpose: it is the signature of the expected PCR.
 * Source: systemd 258, src/fundamental/uki.h.
 */
const MEASURED_SECTIONS: readonly { readonly name: string; readonly since: number }[] = [
  { name: '.linux', since: 252 },
  { name: '.osrel', since: 252 },
  { name: '.cmdline', since: 252 },
  { name: '.initrd', since: 252 },
  { name: '.ucode', since: 256 },
  { name: '.splash', since: 252 },
  { name: '.dtb', since: 252 },
  { name: '.uname', since: 253 },
  { name: '.sbat', since: 254 },
  { name: '.pcrpkey', since: 252 },
  { name: '.profile', since: 257 },
  { name: '.dtbauto', since: 257 },
  { name: '.hwids', since: 257 },
  { name: '.efifw', since: 258 },
];

/** systemd-stub takes one of several of these, by the machine it runs on: what it measures cannot be told elsewhere. */
const CHOSEN_BY_MACHINE: readonly string[] = ['.dtbauto', '.efifw'];

/** A unified kernel image, as one of its profiles. */
export type UnifiedKernel = {
  readonly image: PeImage;
  readonly profile: number;
  /** Release of systemd-stub, as 252; `undefined` if the image does not tell it. */
  readonly stubRelease: number | undefined;
  /** What is measured into PCR 11: of each section first the name with a NUL, then the content. */
  readonly measured: readonly { readonly name: string; readonly content: Buffer }[];
  /** Content of a section of the profile, measured or not. */
  readonly content: (name: string) => Buffer | undefined;
  /** Whether systemd-stub adds files to the initrd that it made of sections. */
  readonly addsFiles: boolean;
};

/** Sections that systemd-stub makes files of, with the release that did so first. Source: systemd 258, src/boot/stub.c. */
const SECTIONS_MADE_FILES: readonly { readonly name: string; readonly since: number }[] = [
  { name: '.pcrsig', since: 252 },
  { name: '.pcrpkey', since: 252 },
  { name: '.osrel', since: 257 },
  { name: '.profile', since: 257 },
];

/**
 * Reads a unified kernel image (UAPI.5): the sections before the first `.profile` and, over them, those of profile
 * `profile`, which start with its `.profile`. The first section of a name counts.
 * @throws ToolError `image_invalid`, `usage` if there is no such profile
 */
export function readUnifiedKernel(image: PeImage, name: string, profile = 0): UnifiedKernel {
  const sections = sectionsOfProfile(image.sections, name, profile);
  const content = (section: string): Buffer | undefined => {
    const found = sections.get(section);
    return found && sectionContent(image, found);
  };
  if ((sections.get('.linux')?.memorySize ?? 0) === 0) {
    throw new ToolError('image_invalid', `${name} has no section .linux: it is no unified kernel image`);
  }
  const magic = image.sections.find((section) => section.name === '.sdmagic');
  const text = magic && sectionContent(image, magic).toString('latin1');
  const release = /systemd-stub (\d{3,})/.exec(text ?? '')?.[1];
  const stubRelease = release === undefined ? undefined : Number(release);
  const isKnown = ({ since }: { readonly since: number }) => since <= (stubRelease ?? Number.POSITIVE_INFINITY);
  const known = MEASURED_SECTIONS.filter(isKnown);
  const chosen = known.find((section) => CHOSEN_BY_MACHINE.includes(section.name) && sections.has(section.name));
  if (chosen !== undefined) {
    const problem = `The machine chooses among the sections ${chosen.name} of ${name}`;
    throw new ToolError('image_invalid', `${problem}: its PCR 11 cannot be predicted`);
  }
  return {
    image,
    profile,
    stubRelease,
    // A section without bytes counts as none.
    measured: known.flatMap((section) => {
      const found = content(section.name);
      return found === undefined || found.length === 0 ? [] : [{ name: section.name, content: found }];
    }),
    content,
    addsFiles: SECTIONS_MADE_FILES.some((section) => isKnown(section) && sections.has(section.name)),
  };
}

function sectionsOfProfile(all: readonly PeSection[], name: string, profile: number): ReadonlyMap<string, PeSection> {
  const starts = all.flatMap((section, i) => (section.name === '.profile' ? [i] : []));
  const [first = all.length] = starts;
  const found = firstOfEachName(all.slice(0, first));
  const start = starts[profile];
  // The first profile need not be there.
  if (start === undefined && profile > 0) {
    throw new ToolError('usage', `${name} has ${starts.length} profiles: there is none with number ${profile}`);
  }
  if (start === undefined) return found;
  return new Map([...found, ...firstOfEachName(all.slice(start, starts[profile + 1] ?? all.length))]);
}

function firstOfEachName(sections: readonly PeSection[]): Map<string, PeSection> {
  const found = new Map<string, PeSection>();
  for (const section of sections) if (!found.has(section.name)) found.set(section.name, section);
  return found;
}

/** The phases of the boot that systemd measures into PCR 11 after the firmware, in order (systemd-pcrphase.service). */
export const BOOT_PHASES: readonly string[] = ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'];

/** PCR 11 when systemd-stub has measured all of a unified kernel image. */
export function sectionsPcr({ measured }: UnifiedKernel, bank: HashAlgorithm): Buffer {
  let value: Buffer = Buffer.alloc(digestSize(bank));
  for (const { name, content } of measured) {
    value = extend(bank, value, digest(bank, Buffer.from(`${name}\0`)));
    value = extend(bank, value, digest(bank, content));
  }
  return value;
}

/** PCR 11 in each phase, from what it is when the kernel starts: by the phases that are through, as `enter-initrd:leave-initrd`. */
export function phasePcrs(value: Buffer, bank: HashAlgorithm): ReadonlyMap<string, Buffer> {
  const values = new Map<string, Buffer>();
  let path = '';
  let current = value;
  for (const phase of BOOT_PHASES) {
    path = path === '' ? phase : `${path}:${phase}`;
    current = extend(bank, current, digest(bank, Buffer.from(phase)));
    values.set(path, current);
  }
  return values;
}
