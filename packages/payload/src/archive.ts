import { buffer } from 'node:stream/consumers';
import { crc32 } from 'node:zlib';
import { bad, good, type Parsed } from '@keylime/core/parsed';
import { type Entry, fromBufferPromise, getFileNameLowLevel, type ZipFile } from 'yauzl';
import { ZipFile as ZipWriter } from 'yazl';
import { type EntryNameProblem, entryNameProblem } from './entry-name.ts';

/** A file to be put into an archive. */
export type NewEntry = { readonly name: string; readonly content: Uint8Array };

/** A stored (not compressed) ZIP, its entries for their owner alone (0600), as existing agents get it. */
export async function storedZip(entries: readonly NewEntry[], modifiedAt: Date): Promise<Buffer> {
  const zip = new ZipWriter();
  for (const { name, content } of entries) {
    zip.addBuffer(Buffer.from(content), name, { compress: false, mode: 0o100600, mtime: modifiedAt });
  }
  zip.end();
  return buffer(zip.outputStream);
}

/** A file or folder of an archive that may be written below a folder: `name` has no part that leads out of it. */
export type ArchiveEntry =
  | { readonly type: 'folder'; readonly name: string }
  | { readonly type: 'file'; readonly name: string; readonly content: Buffer; readonly isExecutable: boolean };

export type ArchiveLimits = {
  readonly entries: number;
  /** Of all files together, unpacked. */
  readonly totalBytes: number;
  /** Most bytes that one packed byte may become; files below `ratioFromBytes` may have any ratio. */
  readonly ratio: number;
  readonly ratioFromBytes: number;
};

/** Generous for a payload, which has 1.5 MiB on the wire, and small for the memory of a machine. */
export const ARCHIVE_LIMITS: ArchiveLimits = {
  entries: 1000,
  totalBytes: 64 << 20,
  ratio: 200,
  ratioFromBytes: 1 << 20,
};

export type ArchiveProblem =
  | { readonly kind: 'not_a_zip' | 'malformed' | 'too_many_entries' | 'too_large' }
  | {
      readonly kind: EntryNameProblem | 'name_duplicate' | 'not_a_file' | 'encrypted' | 'method_unsupported' | 'bomb';
      /** As the archive has it, cut short. */
      readonly entry: string;
    }
  | { readonly kind: 'content_damaged'; readonly entry: string };

/**
 * Takes a ZIP apart, all of it or nothing. [MUST] Names that lead elsewhere, links and special files, names that come
 * twice, and bombs are refused (spec 02 section 5.5). What has no end record and does not begin like a ZIP is `not_a_zip`.
 */
export async function readZip(
  bytes: Buffer,
  limits: ArchiveLimits = ARCHIVE_LIMITS,
): Promise<Parsed<readonly ArchiveEntry[], ArchiveProblem>> {
  if (!looksLikeZip(bytes)) return bad({ kind: 'not_a_zip' });
  const entries: ArchiveEntry[] = [];
  const taken = new Map<string, 'file' | 'folder'>();
  let leftBytes = limits.totalBytes;
  try {
    // Names are decoded and judged here: the library would replace backslashes, and says what is wrong in words only.
    const zip = await fromBufferPromise(bytes, { decodeStrings: false });
    if (zip.entryCount > limits.entries) return bad({ kind: 'too_many_entries' });
    for await (const entry of zip.eachEntry()) {
      const header = readHeader(entry, taken, limits);
      if (!header.ok) return header;
      const { name, type, isExecutable } = header.value;
      leftBytes -= entry.uncompressedSize;
      if (leftBytes < 0) return bad({ kind: 'too_large' });
      if (type === 'folder') {
        entries.push({ type, name });
        continue;
      }
      const content = await readContent(zip, entry);
      if (content === undefined) return bad({ kind: 'content_damaged', entry: shown(name) });
      entries.push({ type, name, content, isExecutable });
    }
  } catch {
    return bad({ kind: 'malformed' });
  }
  return good(entries);
}

const END_OF_CENTRAL_DIRECTORY = Buffer.from('PK\x05\x06', 'latin1');
const LOCAL_FILE_HEADER = Buffer.from('PK\x03\x04', 'latin1');
const END_RECORD_BYTES = 22 + 0xffff;

function looksLikeZip(bytes: Buffer): boolean {
  const tail = bytes.subarray(Math.max(0, bytes.length - END_RECORD_BYTES));
  return bytes.subarray(0, 4).equals(LOCAL_FILE_HEADER) || tail.includes(END_OF_CENTRAL_DIRECTORY);
}

const MADE_ON_UNIX = 3;
const S_IFMT = 0o170000;
const S_IFREG = 0o100000;
const S_IFDIR = 0o040000;

function readHeader(entry: Entry, taken: Map<string, 'file' | 'folder'>, limits: ArchiveLimits) {
  const raw = getFileNameLowLevel(entry.generalPurposeBitFlag, entry.fileNameRaw, entry.extraFields, true);
  const refuse = (kind: Extract<ArchiveProblem, { readonly entry: string }>['kind']) =>
    bad<ArchiveProblem>({ kind, entry: shown(raw) });

  const isFolder = raw.endsWith('/');
  const name = isFolder ? raw.slice(0, -1) : raw;
  const type = isFolder ? 'folder' : 'file';
  const problem = entryNameProblem(name);
  if (problem !== undefined) return refuse(problem);
  if (!take(taken, name, type)) return refuse('name_duplicate');

  const mode = entry.externalFileAttributes >>> 16;
  const fileType = mode & S_IFMT;
  if (fileType !== 0 && fileType !== (isFolder ? S_IFDIR : S_IFREG)) return refuse('not_a_file');
  if (entry.isEncrypted()) return refuse('encrypted');
  if (!entry.canDecodeFileData()) return refuse('method_unsupported');
  const { compressedSize, uncompressedSize } = entry;
  if (isFolder && uncompressedSize > 0) return refuse('not_a_file');
  if (uncompressedSize > limits.ratioFromBytes && uncompressedSize > compressedSize * limits.ratio) {
    return refuse('bomb');
  }
  const isExecutable = entry.versionMadeBy >>> 8 === MADE_ON_UNIX && (mode & 0o100) !== 0;
  return good({ name, type, isExecutable } as const);
}

/** Notes a name and the folders above it; `false` if it is there already, or a file stands where a folder must be. */
function take(taken: Map<string, 'file' | 'folder'>, name: string, type: 'file' | 'folder'): boolean {
  const parts = name.split('/');
  for (let depth = 1; depth < parts.length; depth++) {
    const parent = parts.slice(0, depth).join('/');
    if (taken.get(parent) === 'file') return false;
    taken.set(parent, 'folder');
  }
  // An archive may list a folder before or after what is in it.
  if (taken.has(name) && !(type === 'folder' && taken.get(name) === 'folder')) return false;
  taken.set(name, type);
  return true;
}

/** Content of an entry; the library stops at the declared size. `undefined` if size or CRC-32 is another. */
async function readContent(zip: ZipFile, entry: Entry): Promise<Buffer | undefined> {
  try {
    const content = await buffer(await zip.openReadStreamPromise(entry));
    return content.length === entry.uncompressedSize && crc32(content) === entry.crc32 ? content : undefined;
  } catch {
    return undefined;
  }
}

const shown = (name: string): string => name.slice(0, 100);
