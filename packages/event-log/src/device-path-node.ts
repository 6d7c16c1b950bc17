import { decode } from '@keylime/core/codec';
import { guid } from './guid.ts';
import { utf16Before } from './text.ts';

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;
const guidAt = (body: Buffer, offset: number): string => decode(guid, body.subarray(offset, offset + 16));

/** Text of a node whose body is `exactly` or `atLeast` so many bytes; any other body is unknown. */
type NodeText = { readonly text: (body: Buffer) => string } & (
  | { readonly exactly: number; readonly atLeast?: never }
  | { readonly atLeast: number; readonly exactly?: never }
);

const exactly = (size: number, text: (body: Buffer) => string): NodeText => ({ exactly: size, text });
const atLeast = (size: number, text: (body: Buffer) => string): NodeText => ({ atLeast: size, text });

const vendor = (name: string): NodeText =>
  atLeast(16, (b) => `${name}(${guidAt(b, 0)}${b.length > 16 ? `,${b.toString('hex', 16)}` : ''})`);

const ACPI_NAMES: Readonly<Record<number, (uid: number) => string>> = {
  167985616: (uid) => `PciRoot(${hex(uid)})`,
  168313296: (uid) => `PcieRoot(${hex(uid)})`,
  100942288: (uid) => `Floppy(${hex(uid)})`,
  50414032: (uid) => `Keyboard(${hex(uid)})`,
  83968464: (uid) => `Serial(${hex(uid)})`,
  168116688: () => 'AcpiContainer()',
  168182224: () => 'AcpiContainer()',
  168378832: () => 'EmbeddedController()',
};

function acpi(body: Buffer): string {
  const hid = body.readUInt32LE(0);
  const uid = body.readUInt32LE(4);
  return ACPI_NAMES[hid]?.(uid) ?? `Acpi(0x${hid.toString(16).padStart(8, '0')},${hex(uid)})`;
}

function acpiAddresses(body: Buffer): string {
  const addresses: string[] = [];
  for (let offset = 0; offset + 4 <= body.length; offset += 4) addresses.push(hex(body.readUInt32LE(offset)));
  return `AcpiAdr(${addresses.join(',')})`;
}

const ipv4 = (body: Buffer, offset: number): string => body.subarray(offset, offset + 4).join('.');
function ipv6(body: Buffer, offset: number): string {
  const groups: string[] = [];
  for (let i = offset; i < offset + 16; i += 2) groups.push(body.readUInt16BE(i).toString(16));
  return `[${groups.join(':')}]`;
}
const protocol = (id: number): string => (id === 6 ? 'TCP' : id === 17 ? 'UDP' : String(id));
const withPort = (address: string, port: number): string => (port === 0 ? address : `${address}:${port}`);
const IPV6_ORIGINS = ['Static', 'StatelessAutoConfigure', 'StatefulAutoConfigure'];

/** Local address, remote address, local port, remote port, protocol, origin, gateway, mask. */
function ipv4Text(b: Buffer): string {
  const remote = withPort(ipv4(b, 4), b.readUInt16LE(10));
  const local = withPort(ipv4(b, 0), b.readUInt16LE(8));
  const origin = b.readUInt8(14) === 0 ? 'DHCP' : 'Static';
  return `IPv4(${remote},${protocol(b.readUInt16LE(12))},${origin},${local},${ipv4(b, 15)},${ipv4(b, 19)})`;
}

function ipv6Text(b: Buffer): string {
  const remote = withPort(ipv6(b, 16), b.readUInt16LE(34));
  const local = withPort(ipv6(b, 0), b.readUInt16LE(32));
  const origin = IPV6_ORIGINS[b.readUInt8(38)] ?? String(b.readUInt8(38));
  return `IPv6(${remote},${protocol(b.readUInt16LE(36))},${origin},${local},${ipv6(b, 40)},${b.readUInt8(39)})`;
}

/** Partition number, start, size, signature, format and type of signature. */
function hardDrive(b: Buffer): string {
  const place = `${hex(b.readBigUInt64LE(4))},${hex(b.readBigUInt64LE(12))}`;
  const part = b.readUInt32LE(0);
  const signatureType = b.readUInt8(37);
  if (signatureType === 2) return `HD(${part},GPT,${guidAt(b, 20)},${place})`;
  if (signatureType === 1) return `HD(${part},MBR,${hex(b.readUInt32LE(20))},${place})`;
  return `HD(${part},${signatureType},${b.toString('hex', 20, 36)},${place})`;
}

function nvme(b: Buffer): string {
  const eui = [...b.subarray(4, 12)].map((byte) => byte.toString(16).toUpperCase().padStart(2, '0'));
  return `NVMe(${hex(b.readUInt32LE(0))},${eui.join('-')})`;
}

const BBS_TYPES = ['', 'Floppy', 'HD', 'CDROM', 'PCMCIA', 'USB', 'Network'];
function bbs(b: Buffer): string {
  const type = b.readUInt16LE(0);
  const nul = b.indexOf(0, 4);
  const description = b.toString('latin1', 4, nul < 0 ? b.length : nul);
  return `BBS(${BBS_TYPES[type] || type},${description},${hex(b.readUInt16LE(2))})`;
}

/** Nodes by type and subtype (UEFI 2.10, 10.3), with the text of libefivar 39. */
const NODES: Readonly<Record<string, NodeText>> = {
  '1,1': exactly(2, (b) => `Pci(${hex(b.readUInt8(1))},${hex(b.readUInt8(0))})`),
  '1,3': exactly(
    20,
    (b) => `MemoryMapped(${b.readUInt32LE(0)},${hex(b.readBigUInt64LE(4))},${hex(b.readBigUInt64LE(12))})`,
  ),
  '1,4': vendor('VenHw'),
  '1,5': exactly(4, (b) => `Ctrl(${hex(b.readUInt32LE(0))})`),
  '1,6': exactly(9, (b) => `BMC(${b.readUInt8(0)},${hex(b.readBigUInt64LE(1))})`),
  '2,1': exactly(8, acpi),
  '2,3': atLeast(4, acpiAddresses),
  '3,1': exactly(4, (b) => `Ata(${b.readUInt8(0)},${b.readUInt8(1)},${b.readUInt16LE(2)})`),
  '3,2': exactly(4, (b) => `SCSI(${b.readUInt16LE(0)},${b.readUInt16LE(2)})`),
  '3,5': exactly(2, (b) => `USB(${b.readUInt8(0)},${b.readUInt8(1)})`),
  '3,10': vendor('VenMsg'),
  '3,11': exactly(33, (b) => `MAC(${b.toString('hex', 0, b.readUInt8(32) < 2 ? 6 : 32)},${b.readUInt8(32)})`),
  '3,12': exactly(23, ipv4Text),
  '3,13': exactly(56, ipv6Text),
  '3,17': exactly(1, (b) => `Unit(${b.readUInt8(0)})`),
  '3,18': exactly(6, (b) => `Sata(${b.readUInt16LE(0)},${b.readUInt16LE(2)},${b.readUInt16LE(4)})`),
  '3,20': exactly(2, (b) => `Vlan(${b.readUInt16LE(0)})`),
  '3,23': exactly(12, nvme),
  '3,24': atLeast(0, (b) => `Uri(${b.toString('latin1')})`),
  '3,25': exactly(2, (b) => `UFS(${b.readUInt8(0)},${hex(b.readUInt8(1))})`),
  '3,26': exactly(1, (b) => `SD(${b.readUInt8(0)})`),
  '3,29': exactly(1, (b) => `eMMC(${b.readUInt8(0)})`),
  '4,1': exactly(38, hardDrive),
  '4,2': exactly(20, (b) => `CDROM(${b.readUInt32LE(0)},${hex(b.readBigUInt64LE(4))},${hex(b.readBigUInt64LE(12))})`),
  '4,3': vendor('VenMedia'),
  '4,4': atLeast(0, utf16Before),
  '4,5': exactly(16, (b) => `Media(${guidAt(b, 0)})`),
  '4,6': exactly(16, (b) => `FvFile(${guidAt(b, 0)})`),
  '4,7': exactly(16, (b) => `FvVol(${guidAt(b, 0)})`),
  '4,8': exactly(20, (b) => `Offset(${hex(b.readBigUInt64LE(4))},${hex(b.readBigUInt64LE(12))})`),
  '5,1': atLeast(4, bbs),
};

/** Names of node types whose subtype is not in the table. */
const TYPE_NAMES: Readonly<Record<number, string>> = { 1: 'HardwarePath', 2: 'AcpiPath', 4: 'MediaPath' };

/** One node as text; `body` is what follows its type, subtype and length. */
export function nodeText(type: number, subtype: number, body: Buffer): string {
  const node = NODES[`${type},${subtype}`];
  if (node !== undefined && (node.exactly === undefined ? body.length >= node.atLeast : body.length === node.exactly)) {
    return node.text(body);
  }
  const typeName = TYPE_NAMES[type];
  return typeName === undefined
    ? `Path(${type},${subtype},${body.toString('hex')})`
    : `${typeName}(${subtype},${body.toString('hex')})`;
}
