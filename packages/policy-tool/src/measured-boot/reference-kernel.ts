import {
  type DigestJson,
  FILE_ALGORITHMS,
  type FileAlgorithm,
  type StrictKernelJson,
} from '@keylime/measured-boot/reference-json';
import { ToolError } from '../tool-error.ts';
import { type BootChain, readBootChain } from './boot-chain.ts';
import { viewEvents } from './event-view.ts';
import { escapePattern } from './python-pattern.ts';
import { digestsByPcr, missingEvent, type ReferenceSource } from './reference-source.ts';

/** PCRs that only boot loaders extend: of these every event belongs to the kernel that they start. */
const LOADER_PCRS: readonly number[] = [8, 9, 11, 12, 13];

/** One way to boot: its images, its files, its command line, and all else that its loaders measure. */
export function kernelOf(source: ReferenceSource, secureBoot: boolean): StrictKernelJson {
  const chain = readBootChain(viewEvents(source.log));
  const explained = new Set<number>();
  const images = imagesOf(source, chain, secureBoot);
  const files = filesOf(source, chain, explained);
  const commandLine = commandLineOf(source, chain, explained);
  const others = source.events.filter(({ pcr, index }) => LOADER_PCRS.includes(pcr) && !explained.has(index));
  const digests = digestsByPcr(others, source);
  return { ...images, ...files, ...commandLine, ...(Object.keys(digests).length > 0 && { digests }) };
}

type Members = { readonly [name: string]: string };

/** A digest that has one member for each hash, as `initrd_plain_sha256`. */
function members(stem: string, digests: DigestJson): Members {
  const entries = Object.entries(digests).filter(([name]) => FILE_ALGORITHMS.includes(name as FileAlgorithm));
  return Object.fromEntries(entries.map(([name, value]) => [`${stem}_${name}`, value]));
}

const STAGES: readonly (readonly [string, string])[] = [
  ['shim', 'shim_authcode'],
  ['boot_loader', 'grub_authcode'],
  ['kernel', 'kernel_authcode'],
];

/** Images that were started, an image that shim and GRUB both load once. By name where they are shim, GRUB and kernel. */
function imagesOf(source: ReferenceSource, { images }: BootChain, secureBoot: boolean): StrictKernelJson {
  const measured = images.flatMap(({ role, event }) => {
    const found = source.events.find(({ index }) => index === event.event.index);
    return found === undefined ? [] : [{ role, digest: found.digest, json: source.digestOf(found) }];
  });
  const chain = measured.filter(({ digest }, i) => digest !== measured[i - 1]?.digest);
  if (chain.length === 0) {
    throw missingEvent('EV_EFI_BOOT_SERVICES_APPLICATION in PCR 4', 'what the machine started cannot be told');
  }
  const stages = STAGES.slice(0, secureBoot ? 3 : Math.min(chain.length, 3));
  const areStages = chain.length === stages.length && chain.every(({ role }, i) => role === stages[i]?.[0]);
  return areStages
    ? Object.assign({}, ...chain.map(({ json }, i) => members(stages[i]?.[1] ?? '', json)))
    : { images: chain.map(({ json }) => json) };
}

/** Kernel and initrd as files (PCR 9): one of each has a name, more initrds are digests. */
function filesOf(source: ReferenceSource, chain: BootChain, explained: Set<number>): Members {
  const of = (views: BootChain['initrdFiles'], stem: 'vmlinuz_plain' | 'initrd_plain'): Members => {
    const indexes = new Set(views.map(({ event }) => event.index));
    const events = source.events.filter(({ index }) => indexes.has(index));
    const [first] = events;
    if (first === undefined) return {};
    if (stem === 'vmlinuz_plain' && events.some(({ digest }) => digest !== first.digest)) {
      throw new ToolError(
        'log_unsuitable',
        `GRUB read several kernels in this log: boot one of them, and take its log`,
      );
    }
    for (const { index, digest } of events) if (digest === first.digest) explained.add(index);
    return members(stem, source.digestOf(first));
  };
  return {
    ...of(chain.kernelFiles, 'vmlinuz_plain'),
    ...of([...chain.initrdFiles, ...chain.stubInitrds], 'initrd_plain'),
  };
}

function commandLineOf(source: ReferenceSource, chain: BootChain, explained: Set<number>): StrictKernelJson {
  const isMeasured = (index: number) => source.events.some((event) => event.index === index);
  const lines = chain.commandLines.filter(({ event }) => isMeasured(event.event.index));
  const forged = lines.find(({ text, covered }) => text !== undefined && !covered);
  if (forged !== undefined) {
    const { index } = forged.event.event;
    throw new ToolError(
      'log_unsuitable',
      `The command line of event ${index} is not what was measured: boot again, for this log is forged or damaged`,
    );
  }
  const texts = new Set(lines.flatMap(({ text }) => text ?? []));
  if (texts.size > 1) {
    throw new ToolError(
      'log_unsuitable',
      `The log has ${texts.size} command lines: which one is the kernel's cannot be told`,
    );
  }
  const [text] = texts;
  const stub = lines.find((line) => line.text === undefined);
  if (text !== undefined) {
    for (const { event } of lines) explained.add(event.event.index);
    return { kernel_cmdline: escapePattern(text) };
  }
  const inImage = chain.sections.some(({ name }) => name === '.cmdline');
  if (inImage) return { cmdline_in_image: true };
  if (stub === undefined) {
    throw new ToolError(
      'log_unsuitable',
      'The log has no command line of the kernel, neither of GRUB (PCR 8) nor of Linux (9) or systemd (11, 12): ' +
        'the boot loader does not measure how it starts the kernel, and nothing can vouch for that',
    );
  }
  const event = source.events.find(({ index }) => index === stub.event.event.index);
  explained.add(stub.event.event.index);
  return event === undefined ? {} : { load_options: source.digestOf(event) };
}
