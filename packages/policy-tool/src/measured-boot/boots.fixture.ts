import type { HashAlgorithm } from '@keylime/core/digest';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { encodeFileNode, encodeImageLoad, encodeUtf16, PATH_END } from '@keylime/event-log/encode-data';
import { type SectionToWrite, stubMagic, writePeImage } from './pe-image.fixture.ts';
import { authenticodeDigest, parsePeImage } from './pe-image.ts';

export const BANKS: readonly HashAlgorithm[] = ['sha1', 'sha256'];

/** An image that is unlike others with another text. */
export const imageOf = (text: string): Buffer => writePeImage([{ name: '.text', content: Buffer.from(text) }]);

/** Sections of a unified kernel image. */
export type Sections = { readonly [name: string]: string | Buffer };

/** A unified kernel image for a release of systemd-stub. */
export const unifiedOf = (sections: Sections, release = '252'): Buffer => {
  const all = Object.entries(sections).map(
    ([name, content]): SectionToWrite => ({ name, content: Buffer.from(content) }),
  );
  return writePeImage([stubMagic(release), ...all]);
};

const imageLoad = (image: Buffer, path?: string): EventToEncode => {
  const parsed = parsePeImage(image, 'test');
  return {
    pcr: 4,
    type: 'EV_EFI_BOOT_SERVICES_APPLICATION',
    data: encodeImageLoad(path === undefined ? Buffer.alloc(0) : Buffer.concat([encodeFileNode(path), PATH_END])),
    digests: new Map(BANKS.map((bank) => [bank, authenticodeDigest(parsed, bank)])),
  };
};

const grubText = (prefix: 'grub_cmd' | 'kernel_cmdline', text: string): EventToEncode => ({
  pcr: 8,
  type: 'EV_IPL',
  data: Buffer.from(`${prefix}: ${text}\0`),
  measured: Buffer.from(text),
});

const grubFile = (path: string, content: Buffer): EventToEncode => ({
  pcr: 9,
  type: 'EV_IPL',
  data: Buffer.from(`${path}\0`),
  measured: content,
});

const tagged = (id: number, text: string, measured: Buffer): EventToEncode => {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(id);
  head.writeUInt32LE(text.length + 1, 4);
  return { pcr: 9, type: 'EV_EVENT_TAG', data: Buffer.concat([head, Buffer.from(`${text}\0`)]), measured };
};

const stubOptions = (options: Buffer): EventToEncode => tagged(0x8f3b22ed, 'LOADED_IMAGE::LoadOptions', options);
const stubInitrd = (initrd: Buffer): EventToEncode => tagged(0x8f3b22ec, 'Linux initrd', initrd);

const END: readonly EventToEncode[] = [
  { pcr: 5, type: 'EV_EFI_ACTION', data: Buffer.from('Exit Boot Services Invocation') },
];

export type GrubBoot = {
  readonly kernel: Buffer;
  readonly kernelPath: string;
  readonly initrd: Buffer;
  readonly initrdPath: string;
  readonly commandLine: string;
};

/** The log of a boot with shim and GRUB 2.12. */
export function grubLog({ kernel, kernelPath, initrd, initrdPath, commandLine }: GrubBoot): Buffer {
  return encodeEventLog(BANKS, [
    imageLoad(imageOf('shim'), '\\EFI\\debian\\shimx64.efi'),
    imageLoad(imageOf('GRUB'), '\\EFI\\debian\\grubx64.efi'),
    grubText('grub_cmd', 'set root=hd0'),
    grubFile('/grub/grub.cfg', Buffer.from('grub.cfg')),
    grubText('grub_cmd', `linux ${kernelPath} ${commandLine}`),
    grubFile(kernelPath, kernel),
    imageLoad(kernel),
    imageLoad(kernel),
    grubText('kernel_cmdline', `${kernelPath} ${commandLine}`),
    grubText('grub_cmd', `initrd ${initrdPath}`),
    grubFile(initrdPath, initrd),
    stubOptions(encodeUtf16(`BOOT_IMAGE=${kernelPath} ${commandLine}`)),
    stubInitrd(initrd),
    ...END,
  ]);
}

export type StubBoot = { readonly kernel: Buffer; readonly initrd: Buffer; readonly commandLine: string };

/** The log of a boot in which systemd-boot starts a kernel, or, without `isLogged`, the firmware does. */
export function stubLog({ kernel, initrd, commandLine }: StubBoot, isLogged: boolean): Buffer {
  const options = encodeUtf16(`${commandLine}\0`);
  return encodeEventLog(BANKS, [
    ...(isLogged ? [imageLoad(imageOf('systemd-boot'), '\\EFI\\systemd\\systemd-bootx64.efi')] : []),
    ...(isLogged ? [{ pcr: 12, type: 'EV_IPL', data: options } as const] : []),
    imageLoad(kernel, '\\linux'),
    stubOptions(options),
    stubInitrd(initrd),
    ...END,
  ]);
}

/** The sections that systemd-stub measures, in its order, as the fixture's images have them. */
const ORDER = ['.linux', '.osrel', '.cmdline', '.initrd', '.pcrpkey'];

/** The log of a boot of a unified kernel image, whose files `sections` are, and of what a loader passes to it. */
export function unifiedLog(sections: Sections, passed?: string): Buffer {
  const inOrder = ORDER.flatMap((name) => {
    const content = sections[name];
    return content === undefined ? [] : [{ name, content: Buffer.from(content) }];
  });
  const commandLine = passed ?? String(sections['.cmdline'] ?? '');
  return encodeEventLog(BANKS, [
    imageLoad(imageOf('systemd-boot'), '\\EFI\\systemd\\systemd-bootx64.efi'),
    imageLoad(unifiedOf(sections), '\\EFI\\Linux\\linux.efi'),
    ...inOrder.flatMap(({ name, content }): EventToEncode[] => {
      const data = encodeUtf16(`${name}\0`);
      const event = { pcr: 11, type: 'EV_IPL', data } as const;
      return [
        { ...event, measured: Buffer.from(`${name}\0`) },
        { ...event, measured: content },
      ];
    }),
    ...(passed === undefined ? [] : [{ pcr: 12, type: 'EV_IPL', data: encodeUtf16(`${passed}\0`) } as const]),
    imageLoad(Buffer.from(sections['.linux'] ?? '')),
    stubOptions(encodeUtf16(`${commandLine}\0`)),
    stubInitrd(Buffer.from(sections['.initrd'] ?? '')),
    ...END,
  ]);
}
