import { ToolError } from '../tool-error.ts';
import { compressionOf, decompressed, KNOWN_COMPRESSIONS } from './compression.ts';
import { type CpioFile, isCpio, readCpio } from './cpio.ts';
import { endOfFirstPart, MAX_UNPACKED_BYTES } from './first-part.ts';

/**
 * The regular files of an initial ramdisk: parts one after the other, with zeros between them, each a cpio archive, plain (as
 * those for early boot must be: microcode, tables) or compressed. A later file replaces an earlier one of the same path, but
 * early code may have used that: both are listed. Source: Linux init/initramfs.c `unpack_to_rootfs`.
 * @throws ToolError `archive_malformed`, `archive_unsupported`, `program_missing`
 */
export async function initrdFiles(bytes: Buffer): Promise<readonly CpioFile[]> {
  const files: CpioFile[] = [];
  let at = 0;
  for (;;) {
    const plain = cpioArchives(bytes, at);
    files.push(...plain.files);
    if (plain.end === bytes.length) return files;
    const packed = bytes.subarray(plain.end);
    const compression = compressionOf(packed);
    if (compression === undefined) {
      throw new ToolError(
        'archive_unsupported',
        `Neither a cpio archive nor compressed in a known way (${KNOWN_COMPRESSIONS}): ` +
          `byte ${plain.end} and the following are ${packed.toString('hex', 0, 6)}`,
      );
    }
    const { content, sizeBytes } = await unpackPart(packed, compression.name);
    const main = cpioArchives(content, 0);
    if (main.end < content.length) {
      throw new ToolError('archive_malformed', `What was compressed is no cpio archive at byte ${main.end}`);
    }
    files.push(...main.files);
    at = plain.end + sizeBytes;
  }
}

/** The content of the compressed part that `bytes` begin with, and its size: nearly always it is the last. */
async function unpackPart(
  bytes: Buffer,
  compression: string,
): Promise<{ readonly content: Buffer; readonly sizeBytes: number }> {
  try {
    return { content: await unpacked(bytes), sizeBytes: bytes.length };
  } catch (error) {
    const end = endOfFirstPart(bytes, compression);
    if (end === undefined || end === bytes.length) throw error;
    return { content: await unpacked(bytes.subarray(0, end)), sizeBytes: end };
  }
}

async function unpacked(bytes: Buffer): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of decompressed(once(bytes))) {
    sizeBytes += chunk.length;
    if (sizeBytes > MAX_UNPACKED_BYTES) throw new ToolError('archive_malformed', 'It unpacks to more than 2 GiB');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** The plain archives from `start` on, and the offset of what is neither an archive nor zero. */
function cpioArchives(bytes: Buffer, start: number): { readonly files: readonly CpioFile[]; readonly end: number } {
  const files: CpioFile[] = [];
  let at = start;
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
