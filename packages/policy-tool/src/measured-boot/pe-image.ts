import { createHash } from 'node:crypto';
import { type Decoded, DecodeError, fixedBytes, Reader, struct, u16le, u32le } from '@keylime/core/codec';
import { type HashAlgorithm, opensslName } from '@keylime/core/digest';
import { ToolError } from '../tool-error.ts';

/** A section of an image. `file` is where its bytes are; in memory it has `memorySize` bytes, with zeros behind those. */
export type PeSection = {
  readonly name: string;
  readonly memorySize: number;
  readonly file: { readonly start: number; readonly end: number };
};

/** An EFI image (Microsoft PE/COFF specification, revision 11.0). */
export type PeImage = {
  readonly bytes: Buffer;
  readonly sections: readonly PeSection[];
  /** Offsets of what Authenticode leaves out, and of the end of the headers. */
  readonly checkSumAt: number;
  /** Of the entry of the certificate table; `undefined` where there is no room for one. */
  readonly certificateEntryAt: number | undefined;
  readonly headersEnd: number;
  /** Size of the certificates at the end of the file. */
  readonly certificatesSize: number;
};

const PE_OFFSET_AT = 0x3c;

const CoffHeader = struct({
  signature: fixedBytes(4),
  machine: u16le,
  numberOfSections: u16le,
  timeDateStamp: u32le,
  pointerToSymbolTable: u32le,
  numberOfSymbols: u32le,
  sizeOfOptionalHeader: u16le,
  characteristics: u16le,
});

/** The optional header up to its check sum; `fields` are those that do not matter here. */
const OptionalHead = struct({ magic: u16le, fields: fixedBytes(58), sizeOfHeaders: u32le, checkSum: u32le });
const CHECK_SUM_AT = 64;
/** What is between the check sum and NumberOfRvaAndSizes, by magic: PE32 and PE32+. */
const SIZES_BY_MAGIC: ReadonlyMap<number, number> = new Map([
  [0x10b, 24],
  [0x20b, 40],
]);
const CERTIFICATE_TABLE = 4;
const DIRECTORY_ENTRY_SIZE = 8;

const SectionHeader = struct({
  name: fixedBytes(8),
  virtualSize: u32le,
  virtualAddress: u32le,
  sizeOfRawData: u32le,
  pointerToRawData: u32le,
  relocations: fixedBytes(12),
  characteristics: u32le,
});

/** @throws ToolError `image_invalid`; `name` is that of the file */
export function parsePeImage(bytes: Buffer, name: string): PeImage {
  try {
    return readPeImage(bytes);
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    throw new ToolError('image_invalid', `${name} is no EFI image: ${error.message}`, { cause: error });
  }
}

function readPeImage(bytes: Buffer): PeImage {
  const reader = new Reader(bytes);
  if (bytes.toString('latin1', 0, 2) !== 'MZ') reader.fail('it does not start with MZ');
  reader.take(PE_OFFSET_AT);
  reader.offset = u32le.read(reader);
  if (reader.offset > bytes.length) reader.fail('the PE header is behind the end');
  reader.path = 'PE header';
  const coff = CoffHeader.read(reader);
  if (coff.signature.toString('latin1') !== 'PE\0\0') reader.fail('there is no signature PE');
  const optionalStart = reader.offset;
  const head = OptionalHead.read(reader);
  const gap = SIZES_BY_MAGIC.get(head.magic) ?? reader.fail(`unknown magic 0x${head.magic.toString(16)}`);
  reader.take(gap);
  const directories = u32le.read(reader);
  const certificateEntryAt =
    directories > CERTIFICATE_TABLE ? reader.offset + CERTIFICATE_TABLE * DIRECTORY_ENTRY_SIZE : undefined;
  const certificatesSize = certificateEntryAt === undefined ? 0 : readCertificatesSize(bytes, certificateEntryAt);
  const headersEnd = head.sizeOfHeaders;
  reader.path = 'section table';
  reader.offset = optionalStart + coff.sizeOfOptionalHeader;
  const sections = Array.from({ length: coff.numberOfSections }, () => readSection(reader));
  if (headersEnd < reader.offset || headersEnd > bytes.length) reader.fail(`headers of ${headersEnd} bytes`);
  if (headersEnd + certificatesSize > bytes.length) reader.fail(`certificates of ${certificatesSize} bytes`);
  return {
    bytes,
    sections,
    checkSumAt: optionalStart + CHECK_SUM_AT,
    certificateEntryAt,
    headersEnd,
    certificatesSize,
  };
}

function readCertificatesSize(bytes: Buffer, entryAt: number): number {
  const reader = new Reader(bytes, entryAt, bytes.length, 'certificate table');
  u32le.read(reader);
  return u32le.read(reader);
}

function readSection(reader: Reader): PeSection {
  const header: Decoded<typeof SectionHeader> = SectionHeader.read(reader);
  const start = header.pointerToRawData;
  const end = start + header.sizeOfRawData;
  if (header.sizeOfRawData > 0 && end > reader.end) reader.fail(`a section ends at ${end}, behind the file`);
  const name = header.name.toString('latin1').replace(/\0.*$/s, '');
  return { name, memorySize: header.virtualSize, file: { start, end } };
}

/** Bytes of a section as they are in memory. @throws ToolError `image_invalid` */
export function sectionContent({ bytes }: PeImage, { name, memorySize, file }: PeSection): Buffer {
  if (memorySize > LARGEST_SECTION) throw new ToolError('image_invalid', `The section ${name} has ${memorySize} bytes`);
  const content = bytes.subarray(file.start, Math.min(file.end, file.start + memorySize));
  return content.length === memorySize ? content : Buffer.concat([content], memorySize);
}

/** Bytes of a section in memory, zeros included. */
const LARGEST_SECTION = 2 ** 30;

/**
 * What firmware measures of an image: its hash without what a signature changes (Microsoft, Windows Authenticode Portable
 * Executable Signature Format 1.0, "Calculating the PE Image Hash"; TCG PFP 1.06, 10.2.3).
 * @throws ToolError `image_invalid` if sections overlap, which firmware does not load
 */
export function authenticodeDigest(image: PeImage, algorithm: HashAlgorithm): Buffer {
  const { bytes, checkSumAt, certificateEntryAt, headersEnd, certificatesSize } = image;
  const hash = createHash(opensslName(algorithm));
  const afterCheckSum = checkSumAt + 4;
  hash.update(bytes.subarray(0, checkSumAt));
  if (certificateEntryAt === undefined) hash.update(bytes.subarray(afterCheckSum, headersEnd));
  else {
    hash.update(bytes.subarray(afterCheckSum, certificateEntryAt));
    hash.update(bytes.subarray(certificateEntryAt + DIRECTORY_ENTRY_SIZE, headersEnd));
  }
  let hashed = headersEnd;
  const inFile = image.sections.filter(({ file }) => file.end > file.start);
  for (const { file } of inFile.toSorted((a, b) => a.file.start - b.file.start)) {
    hash.update(bytes.subarray(file.start, file.end));
    hashed += file.end - file.start;
  }
  const end = bytes.length - certificatesSize;
  if (hashed > end)
    throw new ToolError('image_invalid', 'The sections of the image overlap each other or its signature');
  return hash.update(bytes.subarray(hashed, end)).digest();
}
