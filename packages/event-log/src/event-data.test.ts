import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hintData } from './coverage.ts';
import { decodeEventLog } from './decode.ts';
import { devicePathText } from './device-path.ts';
import { type EventToEncode, encodeEventLog } from './encode.ts';
import {
  encodeFileNode,
  encodeImageLoad,
  encodeLoadOption,
  encodeNumber,
  encodePathNode,
  encodeSignatureList,
  encodeUtf16,
  encodeVariable,
  PATH_END,
} from './encode-data.ts';
import type { EventData } from './event-data.ts';
import { SIGNATURE_TYPES, VARIABLE_GUIDS } from './guid.ts';
import { ascii, gpt, guidBytes, SAMPLE_GUID } from './internal/samples.ts';
import { decodeBootOrder, decodeLoadOption } from './load-option.ts';
import type { VariableValue } from './uefi-variable.ts';

function dataOf(event: EventToEncode): EventData {
  const found = decodeEventLog(encodeEventLog(['sha256'], [event])).events[1];
  assert(found);
  return hintData(found);
}

type VariableEvent = 'EV_EFI_VARIABLE_DRIVER_CONFIG' | 'EV_EFI_VARIABLE_BOOT' | 'EV_EFI_VARIABLE_AUTHORITY';

function variableValue(type: VariableEvent, name: string, data: Uint8Array): VariableValue {
  const found = dataOf({ pcr: 7, type, data: encodeVariable(name, data) });
  assert(found.kind === 'variable');
  assert.deepEqual([found.guid, found.name, found.data], [VARIABLE_GUIDS.global, name, Buffer.from(data)]);
  return found.value;
}

const u32s = (...values: readonly number[]): Buffer => Buffer.concat(values.map((value) => encodeNumber(value, 4)));
const u64s = (...values: readonly number[]): Buffer => Buffer.concat(values.map((value) => encodeNumber(value, 8)));

/** Nodes of 04 section 4.8 of the reference and their text by libefivar 39. */
const NODES: readonly (readonly [string, Buffer])[] = [
  ['Pci(0x1f,0x2)', encodePathNode(1, 1, Buffer.of(2, 0x1f))],
  ['MemoryMapped(11,0x900000,0x10fffff)', encodePathNode(1, 3, u32s(11), u64s(0x900000, 0x10fffff))],
  [`VenHw(${SAMPLE_GUID})`, encodePathNode(1, 4, guidBytes(SAMPLE_GUID))],
  [`VenHw(${SAMPLE_GUID},0aff)`, encodePathNode(1, 4, guidBytes(SAMPLE_GUID), Buffer.of(0x0a, 0xff))],
  ['Ctrl(0x3)', encodePathNode(1, 5, u32s(3))],
  ['BMC(1,0xca2)', encodePathNode(1, 6, Buffer.of(1), u64s(0xca2))],
  ['PciRoot(0x0)', encodePathNode(2, 1, u32s(0x0a0341d0, 0))],
  ['PcieRoot(0x1)', encodePathNode(2, 1, u32s(0x0a0841d0, 1))],
  ['Floppy(0x0)', encodePathNode(2, 1, u32s(0x060441d0, 0))],
  ['Acpi(0x020341d0,0x5)', encodePathNode(2, 1, u32s(0x020341d0, 5))],
  ['AcpiAdr(0x1,0x80010100)', encodePathNode(2, 3, u32s(1, 0x80010100))],
  ['Ata(1,0,3)', encodePathNode(3, 1, Buffer.of(1, 0), encodeNumber(3, 2))],
  ['SCSI(1,2)', encodePathNode(3, 2, encodeNumber(1, 2), encodeNumber(2, 2))],
  ['USB(11,0)', encodePathNode(3, 5, Buffer.of(11, 0))],
  [`VenMsg(${SAMPLE_GUID})`, encodePathNode(3, 10, guidBytes(SAMPLE_GUID))],
  ['MAC(525400123456,1)', encodePathNode(3, 11, Buffer.concat([Buffer.from('525400123456', 'hex')], 32), Buffer.of(1))],
  [
    'IPv4(10.0.0.1:80,TCP,Static,10.0.0.2,10.0.0.254,255.255.255.0)',
    encodePathNode(
      3,
      12,
      Buffer.of(10, 0, 0, 2, 10, 0, 0, 1),
      encodeNumber(0, 2),
      encodeNumber(80, 2),
      encodeNumber(6, 2),
      Buffer.of(1, 10, 0, 0, 254, 255, 255, 255, 0),
    ),
  ],
  [
    'IPv6([0:0:0:0:0:0:0:1],UDP,StatelessAutoConfigure,[fe80:0:0:0:0:0:0:2],[0:0:0:0:0:0:0:0],64)',
    encodePathNode(
      3,
      13,
      Buffer.from(`fe80${'00'.repeat(13)}02${'00'.repeat(15)}01`, 'hex'),
      u32s(0),
      encodeNumber(17, 2),
      Buffer.of(1, 64),
      Buffer.alloc(16),
    ),
  ],
  ['Unit(4)', encodePathNode(3, 17, Buffer.of(4))],
  ['Sata(1,65535,0)', encodePathNode(3, 18, encodeNumber(1, 2), encodeNumber(0xffff, 2), encodeNumber(0, 2))],
  ['Vlan(7)', encodePathNode(3, 20, encodeNumber(7, 2))],
  ['NVMe(0x1,00-25-38-5B-71-00-AF-0C)', encodePathNode(3, 23, u32s(1), Buffer.from('0025385b7100af0c', 'hex'))],
  ['Uri(http://10.0.0.1/boot.efi)', encodePathNode(3, 24, ascii('http://10.0.0.1/boot.efi'))],
  ['UFS(0,0xb0)', encodePathNode(3, 25, Buffer.of(0, 0xb0))],
  ['SD(1)', encodePathNode(3, 26, Buffer.of(1))],
  ['eMMC(0)', encodePathNode(3, 29, Buffer.of(0))],
  [
    `HD(1,GPT,${SAMPLE_GUID},0x800,0x80000)`,
    encodePathNode(4, 1, u32s(1), u64s(0x800, 0x80000), guidBytes(SAMPLE_GUID), Buffer.of(2, 2)),
  ],
  [
    'HD(2,MBR,0x90909090,0x800,0x1000)',
    encodePathNode(4, 1, u32s(2), u64s(0x800, 0x1000), Buffer.alloc(16, 0x90), Buffer.of(1, 1)),
  ],
  ['CDROM(1,0x4e,0x21)', encodePathNode(4, 2, u32s(1), u64s(0x4e, 0x21))],
  [`VenMedia(${SAMPLE_GUID})`, encodePathNode(4, 3, guidBytes(SAMPLE_GUID))],
  ['\\EFI\\redhat\\shimx64.efi', encodeFileNode('\\EFI\\redhat\\shimx64.efi')],
  [`Media(${SAMPLE_GUID})`, encodePathNode(4, 5, guidBytes(SAMPLE_GUID))],
  [`FvFile(${SAMPLE_GUID})`, encodePathNode(4, 6, guidBytes(SAMPLE_GUID))],
  [`FvVol(${SAMPLE_GUID})`, encodePathNode(4, 7, guidBytes(SAMPLE_GUID))],
  ['Offset(0x15c00,0x47fff)', encodePathNode(4, 8, u32s(0), u64s(0x15c00, 0x47fff))],
  ['BBS(HD,disk,0x90)', encodePathNode(5, 1, encodeNumber(2, 2), encodeNumber(0x90, 2), ascii('disk\0'))],
  ['HardwarePath(99,aa)', encodePathNode(1, 99, Buffer.of(0xaa))],
  ['AcpiPath(9,)', encodePathNode(2, 9)],
  ['MediaPath(1,00)', encodePathNode(4, 1, Buffer.of(0))],
  ['Path(3,99,0102)', encodePathNode(3, 99, Buffer.of(1, 2))],
];

for (const [text, bytes] of NODES) {
  test(`a device path node is written as ${text}`, () => assert.equal(devicePathText(bytes), text));
}

test('nodes are joined with slashes, instances with commas, and nothing counts behind the end', () => {
  const pci = encodePathNode(1, 1, Buffer.of(0, 1));
  const unit = encodePathNode(3, 17, Buffer.of(2));
  const path = Buffer.concat([pci, unit, encodePathNode(0x7f, 0x01), unit, PATH_END, pci]);
  assert.equal(devicePathText(path), 'Pci(0x1,0x0)/Unit(2),Unit(2)');
});

test('a device path node that is too short or too long does not decode', () => {
  assert.throws(() => devicePathText(Buffer.of(1, 1, 3, 0)), { problem: 'device path node of 3 bytes' });
  assert.throws(() => devicePathText(Buffer.of(1, 1, 9, 0, 0)), { problem: '5 bytes wanted, 1 left' });
});

test('signature lists are read whole, each with its type, header and owner', () => {
  const hashes = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const lists = Buffer.concat([
    encodeSignatureList(SIGNATURE_TYPES.x509, SAMPLE_GUID, [ascii('certificate')], Buffer.alloc(4)),
    encodeSignatureList(SIGNATURE_TYPES.sha256, SAMPLE_GUID, hashes),
  ]);
  assert.deepEqual(variableValue('EV_EFI_VARIABLE_DRIVER_CONFIG', 'db', lists), {
    kind: 'signature_database',
    lists: [
      {
        type: SIGNATURE_TYPES.x509,
        listSize: 28 + 4 + 27,
        headerSize: 4,
        signatureSize: 27,
        signatures: [{ owner: SAMPLE_GUID, data: ascii('certificate') }],
      },
      {
        type: SIGNATURE_TYPES.sha256,
        listSize: 28 + 96,
        headerSize: 0,
        signatureSize: 48,
        signatures: hashes.map((data) => ({ owner: SAMPLE_GUID, data })),
      },
    ],
  });
});

for (const [what, listSize, headerSize, signatureSize] of [
  ['shorter than its header', 27, 0, 48],
  ['without signatures', 28, 0, 48],
  ['with a header beyond its end', 76, 0xffff_ffff, 48],
  ['with signatures of less than an owner', 76, 0, 15],
  ['with a part of a signature', 76, 0, 47],
  ['with signatures of no size', 76, 0, 0],
  ['longer than the variable', 124, 0, 48],
] as const) {
  test(`a signature list ${what} is malformed`, () => {
    const list = encodeSignatureList(SIGNATURE_TYPES.sha256, SAMPLE_GUID, [Buffer.alloc(32)]);
    u32s(listSize, headerSize, signatureSize).copy(list, 16);
    assert.equal(variableValue('EV_EFI_VARIABLE_DRIVER_CONFIG', 'dbx', list).kind, 'malformed');
  });
}

test('a switch is on for any value but zero, and longer ones are malformed', () => {
  const on = (bytes: Buffer) => variableValue('EV_EFI_VARIABLE_DRIVER_CONFIG', 'SecureBoot', bytes);
  assert.deepEqual(
    [0, 1, 2].map((value) => on(Buffer.of(value))),
    [false, true, true].map((value) => ({ kind: 'switch', on: value })),
  );
  assert.equal(on(Buffer.of(1, 0)).kind, 'malformed');
});

test('authorities, SbatLevel and MokListTrusted are read by their names', () => {
  const authority = (name: string, bytes: Buffer) => variableValue('EV_EFI_VARIABLE_AUTHORITY', name, bytes);
  const owned = Buffer.concat([guidBytes(SAMPLE_GUID), ascii('certificate')]);
  for (const name of ['db', 'Shim', 'vendor_db', 'MokListRT']) {
    assert.deepEqual(authority(name, owned), { kind: 'authority', owner: SAMPLE_GUID, data: ascii('certificate') });
    assert.equal(authority(name, ascii('short')).kind, 'malformed');
  }
  assert.deepEqual(authority('SbatLevel', ascii('sbat,1,2021030218\n')), { kind: 'text', text: 'sbat,1,2021030218\n' });
  assert.deepEqual(authority('MokListTrusted', Buffer.of(1)), { kind: 'switch', on: true });
  assert.deepEqual(authority('Other', owned), { kind: 'bytes' });
});

test('a boot option tells whether it is active, what it is called, what it starts and with which data', () => {
  const path = Buffer.concat([encodeFileNode('\\EFI\\debian\\shimx64.efi'), PATH_END]);
  const option = encodeLoadOption('debian', path, ascii('more'));
  const expected = {
    attributes: 1,
    active: true,
    description: 'debian',
    filePathSize: path.length,
    devicePath: '\\EFI\\debian\\shimx64.efi',
    optionalData: ascii('more'),
  };
  assert.deepEqual(variableValue('EV_EFI_VARIABLE_BOOT', 'Boot001F', option), { kind: 'load_option', ...expected });
  assert.deepEqual(decodeLoadOption(option), expected);
  assert.equal(variableValue('EV_EFI_VARIABLE_BOOT', 'Boot001F', option.subarray(0, 20)).kind, 'malformed');
  assert.deepEqual(variableValue('EV_EFI_VARIABLE_BOOT', 'BootNext?', option), { kind: 'bytes' });
});

test('the boot order is numbers, and half a number is malformed', () => {
  const order = Buffer.concat([encodeNumber(3, 2), encodeNumber(0x1f, 2)]);
  assert.deepEqual(variableValue('EV_EFI_VARIABLE_BOOT', 'BootOrder', order), { kind: 'boot_order', order: [3, 0x1f] });
  assert.deepEqual(decodeBootOrder(order), [3, 0x1f]);
  assert.equal(variableValue('EV_EFI_VARIABLE_BOOT', 'BootOrder', order.subarray(0, 3)).kind, 'malformed');
});

test('a variable that does not fill its event exactly is malformed', () => {
  const whole = encodeVariable('SecureBoot', Buffer.of(1));
  for (const data of [whole.subarray(0, -1), Buffer.concat([whole, Buffer.of(0)]), whole.subarray(0, 20)]) {
    assert.equal(dataOf({ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data }).kind, 'malformed');
  }
});

for (const uintn of [4, 8] as const) {
  test(`a GPT with UINTN of ${uintn} bytes is read: disk, partitions and their names`, () => {
    const data = dataOf({ pcr: 5, type: 'EV_EFI_GPT_EVENT', data: gpt(uintn) });
    assert(data.kind === 'gpt');
    assert.deepEqual([data.header.diskGuid, data.header.numberOfPartitionEntries], [SAMPLE_GUID, 128]);
    assert.deepEqual(
      data.partitions.map(({ name, startingLba, endingLba }) => [name, startingLba, endingLba]),
      [['EFI System', 2048n, 4000n]],
    );
  });

  test(`an image load with UINTN of ${uintn} bytes is read`, () => {
    const image = encodeImageLoad(Buffer.concat([encodeFileNode('\\grub.efi'), PATH_END]), uintn);
    const data = dataOf({ pcr: 4, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data: image });
    assert(data.kind === 'image_load');
    assert.deepEqual(
      [data.locationInMemory, data.lengthInMemory, data.devicePath],
      [0x7e00_0000n, 0x1_0000, '\\grub.efi'],
    );
  });
}

test('a GPT without its signature, or with other entries than it says, is malformed', () => {
  const noSignature = gpt();
  noSignature.write('X', 0);
  for (const data of [noSignature, gpt().subarray(0, -1), Buffer.concat([gpt(), Buffer.of(0)])]) {
    assert.equal(dataOf({ pcr: 5, type: 'EV_EFI_GPT_EVENT', data }).kind, 'malformed');
  }
});

const described = Buffer.concat([Buffer.of(3), ascii('FV1')]);

for (const [what, event, expected] of [
  [
    'a firmware blob',
    { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB', data: u64s(16, 32) },
    { kind: 'blob', base: 16n, length: 32n, description: undefined },
  ],
  [
    'a described firmware blob',
    { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB2', data: Buffer.concat([described, u64s(16, 32)]) },
    { kind: 'blob', base: 16n, length: 32n, description: ascii('FV1') },
  ],
  [
    'POST code by its name',
    { pcr: 0, type: 'EV_POST_CODE', data: ascii('ACPI DATA') },
    { kind: 'text', text: 'ACPI DATA', encoding: 'ascii' },
  ],
  [
    'POST code by its place',
    { pcr: 0, type: 'EV_POST_CODE', data: u64s(16, 32) },
    { kind: 'blob', base: 16n, length: 32n, description: undefined },
  ],
  [
    'contents of the CRTM',
    { pcr: 0, type: 'EV_S_CRTM_CONTENTS', data: u64s(16, 32) },
    { kind: 'blob', base: 16n, length: 32n, description: undefined },
  ],
  [
    'a version of the CRTM',
    { pcr: 0, type: 'EV_S_CRTM_VERSION', data: encodeUtf16('N40ET41W\0') },
    { kind: 'text', text: 'N40ET41W', encoding: 'utf16le' },
  ],
  [
    'a version that is a GUID',
    { pcr: 0, type: 'EV_S_CRTM_VERSION', data: guidBytes(SAMPLE_GUID) },
    { kind: 'guid', guid: SAMPLE_GUID },
  ],
  [
    'handoff tables',
    { pcr: 1, type: 'EV_EFI_HANDOFF_TABLES', data: Buffer.concat([u64s(1), guidBytes(SAMPLE_GUID), u64s(99)]) },
    { kind: 'handoff_tables', description: undefined, tables: [{ guid: SAMPLE_GUID, address: 99n }] },
  ],
  [
    'described handoff tables of 32-bit firmware',
    {
      pcr: 1,
      type: 'EV_EFI_HANDOFF_TABLES2',
      data: Buffer.concat([described, u32s(1), guidBytes(SAMPLE_GUID), u32s(99)]),
    },
    { kind: 'handoff_tables', description: ascii('FV1'), tables: [{ guid: SAMPLE_GUID, address: 99n }] },
  ],
  [
    'the memory encryption of GCE',
    { pcr: 0, type: 'EV_NONHOST_INFO', data: Buffer.concat([ascii('GCE NonHostInfo\0'), Buffer.of(4)]) },
    { kind: 'gce_nonhost_info', technology: 'sev_snp' },
  ],
  ['other information of the platform', { pcr: 0, type: 'EV_NONHOST_INFO', data: Buffer.of(1, 2) }, { kind: 'bytes' }],
  [
    'the H-CRTM',
    { pcr: 0, type: 'EV_EFI_HCRTM_EVENT', data: ascii('HCRTM') },
    { kind: 'text', text: 'HCRTM', encoding: 'ascii' },
  ],
  [
    'an action',
    { pcr: 5, type: 'EV_EFI_ACTION', data: ascii('Exit Boot Services Invocation') },
    { kind: 'text', text: 'Exit Boot Services Invocation', encoding: 'ascii' },
  ],
  [
    'a file of GRUB',
    { pcr: 9, type: 'EV_IPL', data: ascii('(hd0,gpt1)/grub.cfg\0') },
    { kind: 'file', path: '(hd0,gpt1)/grub.cfg' },
  ],
  [
    'a module command line',
    { pcr: 8, type: 'EV_IPL', data: ascii('module_cmdline: xen.gz dom0\0') },
    { kind: 'grub', role: 'module_cmdline', text: 'xen.gz dom0' },
  ],
  [
    'a command line of systemd-stub',
    { pcr: 12, type: 'EV_IPL', data: encodeUtf16('root=LABEL=Ä quiet\0') },
    { kind: 'load_options', text: 'root=LABEL=Ä quiet' },
  ],
  [
    'text in another PCR',
    { pcr: 5, type: 'EV_IPL', data: ascii('MBR\0') },
    { kind: 'text', text: 'MBR', encoding: 'ascii' },
  ],
  [
    'the configuration of systemd-boot',
    { pcr: 5, type: 'EV_EVENT_TAG', data: Buffer.concat([u32s(0xf5bc582a, 2), encodeUtf16('x')]) },
    { kind: 'tag', id: 0xf5bc582a, meaning: 'systemd_loader_conf', data: encodeUtf16('x') },
  ],
  [
    'a pointer to a reference manifest',
    {
      pcr: 0,
      type: 'EV_NO_ACTION',
      data: Buffer.concat([ascii('SP800-155 Event3'), u32s(11129), guidBytes(SAMPLE_GUID), ascii('more')]),
    },
    { kind: 'sp800_155', signature: 'SP800-155 Event3', vendorId: 11129, manifest: SAMPLE_GUID },
  ],
  ['an event without data', { pcr: 0, type: 0x40e, data: Buffer.alloc(0) }, { kind: 'empty' }],
] as const satisfies [string, EventToEncode, EventData][]) {
  test(`${what} is read`, () => assert.deepEqual(dataOf(event), expected));
}

for (const [what, event] of [
  [
    'a startup locality of 1',
    { pcr: 0, type: 'EV_NO_ACTION', data: Buffer.concat([ascii('StartupLocality\0'), Buffer.of(1)]) },
  ],
  [
    'a startup locality of two bytes',
    { pcr: 0, type: 'EV_NO_ACTION', data: Buffer.concat([ascii('StartupLocality\0'), Buffer.of(3, 0)]) },
  ],
  ['a separator of five bytes', { pcr: 0, type: 'EV_SEPARATOR', data: Buffer.alloc(5) }],
  ['a firmware blob of 15 bytes', { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB', data: Buffer.alloc(15) }],
  ['more handoff tables than there are', { pcr: 1, type: 'EV_EFI_HANDOFF_TABLES', data: u64s(2, 0, 0, 0) }],
  ['a tag with another size than it says', { pcr: 9, type: 'EV_EVENT_TAG', data: u32s(1, 5) }],
  [
    'an image with a device path beyond its end',
    { pcr: 4, type: 'EV_EFI_BOOT_SERVICES_DRIVER', data: u64s(0, 0, 0, 99) },
  ],
] as const satisfies [string, EventToEncode][]) {
  test(`${what} is malformed`, () => assert.equal(dataOf(event).kind, 'malformed'));
}

test('no data make a reader fail in another way than with a problem', () => {
  const types = [
    'EV_EFI_VARIABLE_BOOT',
    'EV_EFI_GPT_EVENT',
    'EV_EFI_BOOT_SERVICES_DRIVER',
    'EV_EVENT_TAG',
    'EV_IPL',
    'EV_NO_ACTION',
  ] as const;
  fc.assert(
    fc.property(fc.constantFrom(...types), fc.nat(23), fc.uint8Array({ maxLength: 120 }), (type, pcr, data) => {
      assert.equal(typeof dataOf({ pcr, type, data }).kind, 'string');
    }),
    { numRuns: 500 },
  );
  fc.assert(
    fc.property(
      fc.constantFrom('db', 'BootOrder', 'Boot0001', 'SecureBoot'),
      fc.uint8Array({ maxLength: 120 }),
      (name, data) => {
        assert.equal(typeof variableValue('EV_EFI_VARIABLE_DRIVER_CONFIG', name, data).kind, 'string');
        assert.equal(typeof variableValue('EV_EFI_VARIABLE_BOOT', name, data).kind, 'string');
      },
    ),
  );
});
