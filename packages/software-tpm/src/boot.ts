import { digest } from '@keylime/core/digest';
import type { EventToEncode } from '@keylime/event-log/encode';
import {
  encodeFileNode,
  encodeGpt,
  encodeImageLoad,
  encodeLoadOption,
  encodeNumber,
  encodeSignatureData,
  encodeSignatureList,
  encodeUtf16,
  encodeVariable,
  PATH_END,
} from '@keylime/event-log/encode-data';
import { SIGNATURE_TYPES, VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { BootCertificates } from './boot-certificates.ts';

/** What a machine boots. Contents are measured as they are; none of them is run. */
export type Boot = {
  readonly certificates: BootCertificates;
  readonly secureBoot: boolean;
  /** Authenticode SHA-256 digests of images that must not start. */
  readonly dbx: readonly Uint8Array[];
  readonly firmwareVersion: string;
  readonly firmware: Uint8Array;
  readonly shim: Uint8Array;
  readonly grub: Uint8Array;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly kernelCommandLine: string;
  readonly sbatLevel: string;
  readonly mokList: Uint8Array;
  readonly mokListX: Uint8Array;
};

export const KERNEL_PATH = '/boot/vmlinuz';
export const INITRD_PATH = '/boot/initrd.img';

const OWNER = '6a1c3a0e-5c0e-4a7b-9d29-0d8a4be1c7aa';
const ESP_TYPE = 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b';
const ESP = 'd1f6a9a5-8a5e-4a0e-8a35-3c1a3cbb3b61';
const DISK = '9c1d5e0b-8e2f-4f25-9a64-5b0c2f6f9b0d';

const ascii = (text: string): Buffer => Buffer.from(text, 'latin1');
const SEPARATOR = encodeNumber(0, 4);

/** What a machine in good order boots. */
export const goodBoot = (certificates: BootCertificates): Boot => ({
  certificates,
  secureBoot: true,
  dbx: [digest('sha256', ascii('a boot loader with a hole'))],
  firmwareVersion: 'Example firmware 1.0',
  firmware: ascii('firmware volume'),
  shim: ascii('shim'),
  grub: ascii('GRUB'),
  kernel: ascii('kernel 6.12'),
  initrd: ascii('initrd of kernel 6.12'),
  kernelCommandLine: `${KERNEL_PATH} root=LABEL=ROOT ro quiet ima_policy=tcb`,
  sbatLevel: 'sbat,1,2025021800\nshim,4\ngrub,5\n',
  mokList: Buffer.alloc(0),
  mokListX: Buffer.alloc(0),
});

/**
 * What the firmware (edk2), shim and GRUB of a machine measure from its start until Linux takes over, in this order, as
 * a virtual machine with Debian 12 did (testing/vectors/debian12-secureboot-vm). Events can be changed, left out and added
 * before `measureBoot` takes them.
 */
export function bootEvents(boot: Boot): readonly EventToEncode[] {
  return [...firmwareEvents(boot), ...shimEvents(boot), ...grubEvents(boot)];
}

function firmwareEvents({ certificates, dbx, ...boot }: Boot): EventToEncode[] {
  const config = (name: string, data: Uint8Array, owner: string = VARIABLE_GUIDS.global): EventToEncode => ({
    pcr: 7,
    type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
    data: encodeVariable(name, data, { owner }),
  });
  const trusted = (...ders: readonly Uint8Array[]) =>
    Buffer.concat(ders.map((der) => encodeSignatureList(SIGNATURE_TYPES.x509, OWNER, [der])));
  const refused = dbx.length === 0 ? Buffer.alloc(0) : encodeSignatureList(SIGNATURE_TYPES.sha256, OWNER, dbx);
  const security = VARIABLE_GUIDS.imageSecurityDatabase;
  const bootOption = encodeLoadOption('Example', Buffer.concat([encodeFileNode(SHIM_PATH), PATH_END]));
  return [
    { pcr: 0, type: 'EV_S_CRTM_VERSION', data: encodeUtf16(`${boot.firmwareVersion}\0`) },
    {
      pcr: 0,
      type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB',
      data: Buffer.concat([encodeNumber(0x90_0000, 8), encodeNumber(boot.firmware.length, 8)]),
      measured: boot.firmware,
    },
    config('SecureBoot', Buffer.of(boot.secureBoot ? 1 : 0)),
    config('PK', trusted(certificates.platform)),
    config('KEK', trusted(certificates.keyExchange)),
    config('db', trusted(certificates.image), security),
    config('dbx', refused, security),
    { pcr: 7, type: 'EV_SEPARATOR', data: SEPARATOR },
    bootVariable('BootOrder', encodeNumber(0, 2)),
    bootVariable('Boot0000', bootOption),
    { pcr: 4, type: 'EV_EFI_ACTION', data: ascii('Calling EFI Application from Boot Option') },
    ...[0, 1, 2, 3, 4, 5, 6].map((pcr) => ({ pcr, type: 'EV_SEPARATOR', data: SEPARATOR }) as const),
  ];
}

/** edk2 measures the value only. */
const bootVariable = (name: string, value: Uint8Array): EventToEncode => ({
  pcr: 1,
  type: 'EV_EFI_VARIABLE_BOOT',
  data: encodeVariable(name, value),
  measured: value,
});

const SHIM_PATH = '\\EFI\\BOOT\\BOOTX64.EFI';

/** The firmware starts shim, shim its own variables and GRUB. */
function shimEvents({ certificates, secureBoot, ...boot }: Boot): EventToEncode[] {
  const partition = { typeGuid: ESP_TYPE, uniqueGuid: ESP, startingLba: 2048n, endingLba: 4000n, attributes: 0n };
  const shimLock = VARIABLE_GUIDS.shimLock;
  const signer = authority('db', encodeSignatureData(OWNER, certificates.image), VARIABLE_GUIDS.imageSecurityDatabase);
  const ownSigner = authority('MokListRT', encodeSignatureData(shimLock, certificates.vendor), shimLock);
  return [
    ...(secureBoot ? [signer] : []),
    { pcr: 5, type: 'EV_EFI_GPT_EVENT', data: encodeGpt(DISK, [{ ...partition, name: 'EFI System' }]) },
    application(boot.shim, encodeFileNode(SHIM_PATH), PATH_END),
    shimVariable('MokList', boot.mokList),
    shimVariable('MokListX', boot.mokListX),
    authority('SbatLevel', ascii(boot.sbatLevel), shimLock),
    shimVariable('MokListTrusted', Buffer.of(1)),
    ...(secureBoot ? [ownSigner] : []),
    application(boot.grub, encodeFileNode('\\EFI\\BOOT\\grubx64.efi'), PATH_END),
  ];
}

const shimVariable = (name: string, measured: Uint8Array): EventToEncode => ({
  pcr: 14,
  type: 'EV_IPL',
  data: ascii(`${name}\0`),
  measured,
});

const authority = (name: string, data: Uint8Array, owner: string): EventToEncode => ({
  pcr: 7,
  type: 'EV_EFI_VARIABLE_AUTHORITY',
  data: encodeVariable(name, data, { owner }),
});

/** The digest of an image is its Authenticode hash, another one than that of its file. */
const application = (image: Uint8Array, ...devicePath: readonly Uint8Array[]): EventToEncode => ({
  pcr: 4,
  type: 'EV_EFI_BOOT_SERVICES_APPLICATION',
  data: encodeImageLoad(Buffer.concat(devicePath)),
  measured: Buffer.concat([ascii('Authenticode of '), image]),
});

/** GRUB reads its configuration, has shim verify the kernel, and starts it. */
function grubEvents({ kernelCommandLine, secureBoot, ...boot }: Boot): EventToEncode[] {
  const configuration = `linux ${kernelCommandLine}\ninitrd ${INITRD_PATH}\n`;
  return [
    grubText('grub_cmd', 'source (hd0,gpt1)/EFI/debian/grub.cfg'),
    grubFile('(hd0,gpt1)/EFI/debian/grub.cfg', ascii(configuration)),
    grubText('grub_cmd', `linux ${kernelCommandLine}`),
    grubFile(KERNEL_PATH, boot.kernel),
    ...(secureBoot ? [application(boot.kernel)] : []),
    grubText('kernel_cmdline', kernelCommandLine),
    grubText('grub_cmd', `initrd ${INITRD_PATH}`),
    grubFile(INITRD_PATH, boot.initrd),
    grubText('grub_cmd', 'boot'),
    { pcr: 5, type: 'EV_EFI_ACTION', data: ascii('Exit Boot Services Invocation') },
    { pcr: 5, type: 'EV_EFI_ACTION', data: ascii('Exit Boot Services Returned with Success') },
  ];
}

const grubText = (prefix: 'grub_cmd' | 'kernel_cmdline', text: string): EventToEncode => ({
  pcr: 8,
  type: 'EV_IPL',
  data: Buffer.from(`${prefix}: ${text}\0`),
  measured: Buffer.from(text),
});

const grubFile = (path: string, content: Uint8Array): EventToEncode => ({
  pcr: 9,
  type: 'EV_IPL',
  data: ascii(`${path}\0`),
  measured: content,
});
