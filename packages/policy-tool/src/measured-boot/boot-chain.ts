import { hintData } from '@keylime/event-log/coverage';
import type { EventData } from '@keylime/event-log/event-data';
import { VARIABLE_GUIDS } from '@keylime/event-log/guid';
import { linuxCommandLine } from '@keylime/measured-boot/grub-command';
import { believedData, type EventView } from './event-view.ts';

/** What started what. */
export type BootChain = {
  /** Images that the firmware's boot option started and those that they started, in order; none of the firmware's own. */
  readonly images: readonly BootImage[];
  /** Applications of the firmware, a boot menu for example. */
  readonly firmwareApplications: readonly EventView[];
  /** Files that GRUB read as kernel, and as initrd. */
  readonly kernelFiles: readonly EventView[];
  readonly initrdFiles: readonly EventView[];
  /** The initrd as Linux's stub measured it. */
  readonly stubInitrds: readonly EventView[];
  readonly commandLines: readonly CommandLine[];
  /** Sections of a unified kernel image: the events of their names and of their contents. */
  readonly sections: readonly { readonly name: string; readonly event: EventView }[];
};

export type ImageRole = 'shim' | 'boot_loader' | 'unified_kernel' | 'kernel';

/** `path` is what the log says, which nothing vouches for; the role follows from the other events. */
export type BootImage = { readonly role: ImageRole; readonly path: string; readonly event: EventView };

/** A kernel's command line. `text` is `undefined` where the log has only its digest. */
export type CommandLine = { readonly text: string | undefined; readonly covered: boolean; readonly event: EventView };

/** Reads the boot chain off a log. What a bank vouches for are the digests of the result; names are hints. */
export function readBootChain(views: readonly EventView[]): BootChain {
  const measured = views.filter(({ coverage }) => coverage !== undefined);
  const of = <K extends EventData['kind']>(kind: K) =>
    measured.flatMap((event) => {
      const data = hintData(event.event);
      return data.kind === kind ? [{ event, data: data as Extract<EventData, { kind: K }> }] : [];
    });
  const grub = of('grub');
  const sections = of('section').map(({ event, data }) => ({ name: data.name, event }));
  const named = filesNamedByGrub(grub.map(({ data }) => data));
  const files = of('file');
  const applications = of('image_load').filter(({ event }) => isApplication(event));
  const tags = of('tag');
  const tagged = (meaning: string) => tags.flatMap(({ event, data }) => (data.meaning === meaning ? [event] : []));
  return {
    images: nameRoles(
      applications.filter(({ data }) => !isOfFirmware(data.devicePath)),
      {
        shim: of('variable').some(({ data }) => data.guid === VARIABLE_GUIDS.shimLock),
        grubAt: grub[0]?.event.event.index,
        unified: sections.length > 0,
      },
    ),
    firmwareApplications: applications.filter(({ data }) => isOfFirmware(data.devicePath)).map(({ event }) => event),
    kernelFiles: files.flatMap(({ event, data }) => (named.kernels.has(data.path) ? [event] : [])),
    initrdFiles: files.flatMap(({ event, data }) => (named.initrds.has(data.path) ? [event] : [])),
    stubInitrds: tagged('linux_initrd'),
    commandLines: [
      ...grub.flatMap(({ event, data }) => (data.role === 'kernel_cmdline' ? [commandLine(event, data.text)] : [])),
      ...of('load_options').map(({ event, data }) => commandLine(event, data.text)),
      ...tagged('linux_load_options').map((event): CommandLine => ({ text: undefined, covered: false, event })),
    ],
    sections,
  };
}

const commandLine = (event: EventView, text: string): CommandLine => ({
  text,
  covered: believedData(event) !== undefined,
  event,
});

const isApplication = ({ event }: EventView): boolean =>
  event.pcr === IMAGE_PCR && event.type === 'EV_EFI_BOOT_SERVICES_APPLICATION';

const IMAGE_PCR = 4;

/** What is in a firmware volume is part of the firmware. */
const isOfFirmware = (devicePath: string): boolean => /^FvVol\([^)]*\)\/FvFile\([^)]*\)/.test(devicePath);

type Loaders = {
  readonly shim: boolean;
  /** Index of GRUB's first event. */
  readonly grubAt: number | undefined;
  readonly unified: boolean;
};

type ImageLoad = { readonly event: EventView; readonly data: Extract<EventData, { kind: 'image_load' }> };

/**
 * Roles by order. What is loaded last before GRUB writes its first event is GRUB, what loaded that is shim, and what comes
 * after it is the kernel. The order between PCRs is nobody's word, as roles are not.
 */
function nameRoles(loads: readonly ImageLoad[], { shim, grubAt, unified }: Loaders): readonly BootImage[] {
  const grub = grubAt === undefined ? -1 : loads.findLastIndex(({ event }) => event.event.index < grubAt);
  const lastFile = loads.findLastIndex(({ data }) => data.devicePath.includes('\\'));
  const last = loads.length - 1;
  const roleOf = (i: number): ImageRole => {
    if (grub >= 0) return i > grub ? 'kernel' : i === grub - 1 ? 'shim' : 'boot_loader';
    if (unified && i >= lastFile) return i === lastFile ? 'unified_kernel' : 'kernel';
    if (shim && i === 0) return 'shim';
    return i === last ? 'kernel' : 'boot_loader';
  };
  return loads.map(({ event, data }, i) => ({ role: roleOf(i), path: data.devicePath, event }));
}

const INITRD_COMMAND = /^initrd(?:efi|16)? +(.*)$/s;

/** The paths in GRUB's commands `linux` and `initrd`, and in its command lines. */
function filesNamedByGrub(texts: readonly Extract<EventData, { kind: 'grub' }>[]): {
  readonly kernels: ReadonlySet<string>;
  readonly initrds: ReadonlySet<string>;
} {
  const kernels = new Set<string>();
  const initrds = new Set<string>();
  for (const { role, text } of texts) {
    const [kernel] = (role === 'kernel_cmdline' ? text : (linuxCommandLine(text) ?? '')).split(' ', 1);
    if (role !== 'module_cmdline' && kernel) kernels.add(kernel);
    if (role !== 'command') continue;
    for (const path of INITRD_COMMAND.exec(text)?.[1]?.split(/ +/) ?? []) initrds.add(path);
  }
  return { kernels, initrds };
}
