import { ToolError } from '../tool-error.ts';
import { compressionOf, decompressed, KNOWN_COMPRESSIONS } from './compression.ts';
import { type CpioFile, isCpio, readCpio } from './cpio.ts';

/** An initial ramdisk that unpacks to more is no ramdisk. */
const MAX_UNPACKED_BYTES = 2 ** 31 - 1;

/**
 * The regular files of an initial ramdisk: cpio archives one after the other, with zeros between them, of which those for
 * early boot (microcode, tables) are plain and the last is compressed. A later file replaces an earlier one of the same
 * path, but early code may have used that: both are listed. Source: Linux init/initramfs.c `unpack_to_rootfs`.
 * @throws ToolError `archive_malformed`, `archive_unsupported`, `program_missing`
 */
export async function initrdFiles(bytes: Buffer): Promise<readonly CpioFile[]> {
  const early = cpioArchives(bytes);
  if (early.end === bytes.length) return early.files;
  const rest = bytes.subarray(early.end);
  if (compressionOf(rest) === undefined) {
    throw new ToolError(
      'archive_unsupported',
      `Neither a cpio archive nor compressed in a known way (${KNOWN_COMPRESSIONS}): ` +
        `byte ${early.end} and the following are ${rest.toString('hex', 0, 6)}`,
    );
  }
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of decompressed(once(rest))) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_UNPACKED_BYTES) throw new ToolError('archive_malformed', 'It unpacks to more than 2 GiB');
    chunks.push(chunk);
  }
  const unpacked = Buffer.concat(chunks);
  const main = cpioArchives(unpacked);
  if (main.end < unpacked.length) {
    throw new ToolError('archive_malformed', `What was compressed is no cpio archive at byte ${main.end}`);
  }
  return [...early.files, ...main.files];
}

/** The plain archives at the beginning, and the offset of what is neither an archive nor zero. */
function cpioArchives(bytes: Buffer): { readonly files: readonly CpioFile[]; readonly end: number } {
  const files: CpioFile[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (isCpio(bytes, at)) {
      const archive = readCpio(bytes, at);
      files.push(...archive.files);
      at = archive.end;
    } else if (bytes[at] === 0) at++;
    else break;
  }
  return { files, end: at };
}

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes;
}
