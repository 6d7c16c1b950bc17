/** A section to write. `memorySize` is the size of `content` if not given. */
export type SectionToWrite = { readonly name: string; readonly content: Buffer; readonly memorySize?: number };

const ALIGNMENT = 0x200;
const PE_AT = 0x40;
const OPTIONAL_AT = PE_AT + 24;
const DIRECTORIES = 16;
/** PE32+ with all its directories. */
const OPTIONAL_SIZE = 112 + DIRECTORIES * 8;
const CERTIFICATE_ENTRY_AT = OPTIONAL_AT + 112 + 4 * 8;

const aligned = (size: number): number => Math.ceil(size / ALIGNMENT) * ALIGNMENT;

/** An EFI application for x86-64 that no machine runs: headers, sections and, behind them, `certificates`. */
export function writePeImage(sections: readonly SectionToWrite[], certificates: Buffer = Buffer.alloc(0)): Buffer {
  const headersSize = aligned(OPTIONAL_AT + OPTIONAL_SIZE + 40 * sections.length);
  const headers = Buffer.alloc(headersSize);
  headers.write('MZ', 0, 'latin1');
  headers.writeUInt32LE(PE_AT, 0x3c);
  headers.write('PE\0\0', PE_AT, 'latin1');
  headers.writeUInt16LE(0x8664, PE_AT + 4);
  headers.writeUInt16LE(sections.length, PE_AT + 6);
  headers.writeUInt16LE(OPTIONAL_SIZE, PE_AT + 20);
  headers.writeUInt16LE(0x22e, PE_AT + 22);
  headers.writeUInt16LE(0x20b, OPTIONAL_AT);
  headers.writeUInt32LE(ALIGNMENT, OPTIONAL_AT + 32);
  headers.writeUInt32LE(ALIGNMENT, OPTIONAL_AT + 36);
  headers.writeUInt32LE(headersSize, OPTIONAL_AT + 60);
  headers.writeUInt16LE(10, OPTIONAL_AT + 68);
  headers.writeUInt32LE(DIRECTORIES, OPTIONAL_AT + 108);
  let at = headersSize;
  let address = 0x1000;
  const contents = sections.map(({ name, content, memorySize = content.length }, i) => {
    const header = OPTIONAL_AT + OPTIONAL_SIZE + 40 * i;
    headers.write(name, header, 8, 'latin1');
    headers.writeUInt32LE(memorySize, header + 8);
    headers.writeUInt32LE(address, header + 12);
    headers.writeUInt32LE(aligned(content.length), header + 16);
    headers.writeUInt32LE(at, header + 20);
    headers.writeUInt32LE(0x4000_0040, header + 36);
    at += aligned(content.length);
    address += Math.max(0x1000, Math.ceil(memorySize / 0x1000) * 0x1000);
    return Buffer.concat([content], aligned(content.length));
  });
  headers.writeUInt32LE(address, OPTIONAL_AT + 56);
  if (certificates.length > 0) {
    headers.writeUInt32LE(at, CERTIFICATE_ENTRY_AT);
    headers.writeUInt32LE(certificates.length, CERTIFICATE_ENTRY_AT + 4);
    headers.writeUInt32LE(0x1234_5678, OPTIONAL_AT + 64);
  }
  return Buffer.concat([headers, ...contents, certificates]);
}

/** The section by which an image tells that it starts with systemd-stub. */
export const stubMagic = (release: string): SectionToWrite => ({
  name: '.sdmagic',
  content: Buffer.from(`#### LoaderInfo: systemd-stub ${release} ####\0`),
});
