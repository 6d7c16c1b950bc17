import { DecodeError } from '@keylime/core/codec';
import { decodeBinaryList, detectBinaryList } from '@keylime/ima/binary-list';
import { nonBlankLines } from '@keylime/ima/replay';
import { readInput } from './files.ts';
import { ToolError } from './tool-error.ts';

/** Where the kernel shows what it has measured. */
export const KERNEL_LIST = '/sys/kernel/security/ima/ascii_runtime_measurements';

/** The lines of a measurement list. */
export type MeasurementList = {
  /** As the ASCII list has them, without line feeds but for those in names, which only a binary list can carry. */
  readonly lines: readonly Uint8Array[];
  /** Lists of big-endian kernels can be read, but their hashes are others. */
  readonly isBigEndian: boolean;
};

/**
 * Reads a measurement list, ASCII (`ascii_runtime_measurements`) or binary (`binary_runtime_measurements`): which of them it
 * is, its byte order and the algorithm of its hashes are seen from its first record.
 * @throws ToolError `file_unreadable`, `list_invalid` with the record and the byte where a binary list is damaged
 */
export async function readMeasurementList(file: string): Promise<MeasurementList> {
  const bytes = await readInput(file, 'IMA measurement list');
  const format = detectBinaryList(bytes);
  if (format === undefined) return { lines: [...nonBlankLines(bytes)], isBigEndian: false };
  try {
    return { lines: [...decodeBinaryList(bytes, format)], isBigEndian: format.bigEndian ?? false };
  } catch (error) {
    if (!(error instanceof DecodeError)) throw error;
    const message = `The binary measurement list ${file} is damaged: ${error.message}`;
    throw new ToolError('list_invalid', message, { cause: error });
  }
}
