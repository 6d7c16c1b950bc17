import { Reader } from '@keylime/core/codec';
import { nodeText } from './device-path-node.ts';

const END_TYPE = 0x7f;
const END_INSTANCE = 0x01;
const END_ENTIRE = 0xff;

/**
 * EFI_DEVICE_PATH_PROTOCOL nodes (UEFI 2.10, 10.3) as text, the way libefivar 39 writes it: nodes joined with `/`,
 * instances with `,`. A node whose body is not what its type says is written in hex. @throws DecodeError for a node
 * that does not fit.
 */
export function readDevicePath(reader: Reader): string {
  let text = '';
  let separator = '';
  while (reader.offset < reader.end) {
    const start = reader.take(4);
    const type = reader.bytes.readUInt8(start);
    const subtype = reader.bytes.readUInt8(start + 1);
    const length = reader.bytes.readUInt16LE(start + 2);
    if (length < 4) reader.fail(`device path node of ${length} bytes`);
    const body = reader.take(length - 4);
    if (type === END_TYPE && subtype === END_ENTIRE) return text;
    if (type === END_TYPE && subtype === END_INSTANCE) {
      text += ',';
      separator = '';
      continue;
    }
    text += separator + nodeText(type, subtype, reader.bytes.subarray(body, body + length - 4));
    separator = '/';
  }
  return text;
}

/** `readDevicePath` of all of `bytes`. */
export const devicePathText = (bytes: Uint8Array): string => readDevicePath(new Reader(bytes));
