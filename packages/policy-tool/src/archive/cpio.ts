import { malformed } from './byte-reader.ts';

/** A regular file in an archive, its path from `/` on. */
export type CpioFile = { readonly path: Buffer; readonly content: Buffer };

/** The files of one archive, and the offset of what follows it. */
export type CpioArchive = { readonly files: readonly CpioFile[]; readonly end: number };

const HEADER_BYTES = 110;
const TRAILER = 'TRAILER!!!';
const FILE_TYPE = 0o170000;
const REGULAR = 0o100000;
/** PATH_MAX of Linux. */
const MAX_NAME_BYTES = 4096;

/** Whether a cpio archive of the new ASCII format, with or without checksums, begins at `at`. */
export function isCpio(bytes: Buffer, at = 0): boolean {
  const magic = bytes.toString('latin1', at, at + 6);
  return magic === '070701' || magic === '070702';
}

/**
 * Reads the archive that begins at `start`, to its trailer. Of files with several names (hard links) the content comes
 * with the last, as the kernel takes it. Source: Linux Documentation/driver-api/early-userspace/buffer-format.rst.
 */
export function readCpio(bytes: Buffer, start = 0): CpioArchive {
  const files: CpioFile[] = [];
  const linked = new Map<string, { paths: Buffer[]; content?: Buffer }>();
  for (let at = start; ; ) {
    if (at + HEADER_BYTES > bytes.length) throw malformed('cpio', at, 'the trailer is missing');
    if (!isCpio(bytes, at)) throw malformed('cpio', at, 'a header does not begin with 070701 or 070702');
    const field = (index: number): number => {
      const from = at + 6 + 8 * index;
      const text = bytes.toString('latin1', from, from + 8);
      if (!/^[0-9a-fA-F]{8}$/.test(text)) throw malformed('cpio', from, 'a field of a header is not hexadecimal');
      return Number.parseInt(text, 16);
    };
    const [ino, mode, nlink, size, nameSize] = [field(0), field(1), field(4), field(6), field(11)];
    const device = `${field(7)}:${field(8)}`;
    if (nameSize < 1 || nameSize > MAX_NAME_BYTES) throw malformed('cpio', at, 'the length of a name is impossible');
    const nameStart = at + HEADER_BYTES;
    const contentStart = aligned(nameStart + nameSize, start);
    const contentEnd = contentStart + size;
    if (contentEnd > bytes.length) throw malformed('cpio', at, 'an entry is longer than the archive');
    if (bytes[nameStart + nameSize - 1] !== 0) throw malformed('cpio', nameStart, 'a name does not end with NUL');
    const name = bytes.subarray(nameStart, nameStart + nameSize - 1);
    // The trailer is the last entry, padded like any other.
    if (name.toString('latin1') === TRAILER) {
      for (const { paths, content = Buffer.alloc(0) } of linked.values()) {
        for (const path of paths) files.push({ path, content });
      }
      return { files, end: Math.min(aligned(contentEnd, start), bytes.length) };
    }
    if ((mode & FILE_TYPE) === REGULAR) {
      const path = absolute(name);
      const content = bytes.subarray(contentStart, contentEnd);
      if (nlink < 2) files.push({ path, content });
      else {
        const key = `${device}:${ino}`;
        const link = linked.get(key) ?? { paths: [] };
        link.paths.push(path);
        if (size > 0) link.content = content;
        linked.set(key, link);
      }
    }
    at = aligned(contentEnd, start);
  }
}

/** Headers and contents begin at multiples of four, counted from the beginning of the archive. */
const aligned = (offset: number, start: number): number => start + Math.ceil((offset - start) / 4) * 4;

/** `usr/bin/x`, `./usr/bin/x` and `/usr/bin/x` are one file. */
function absolute(name: Buffer): Buffer {
  const text = name.toString('latin1').replace(/^(?:\.?\/+)+/, '');
  return Buffer.from(`/${text}`, 'latin1');
}
