import { isAscii, isUtf8 } from 'node:buffer';
import type { Reader } from '@keylime/core/codec';
import type { EventData } from './event-data.ts';
import type { Quirk } from './quirks.ts';

/** `bytes` as UTF-8 or, where they are not, byte for byte as Latin-1. */
export const plainText = (bytes: Buffer): string => bytes.toString(isUtf8(bytes) ? 'utf8' : 'latin1');

/** `bytes` up to the first NUL. */
export function beforeNul(bytes: Buffer): Buffer {
  const nul = bytes.indexOf(0);
  return nul < 0 ? bytes : bytes.subarray(0, nul);
}

/** `bytes` without one NUL at their end. */
export const withoutNul = (bytes: Buffer): Buffer => (bytes.at(-1) === 0 ? bytes.subarray(0, -1) : bytes);

const isPrintable = (byte: number): boolean =>
  (byte >= 0x20 && byte < 0x7f) || byte === 0x09 || byte === 0x0a || byte === 0x0d;

/** Size of `bytes` without the NULs at their end. */
function sizeBeforeNuls(bytes: Buffer): number {
  let size = bytes.length;
  while (size > 0 && bytes[size - 1] === 0) size--;
  return size;
}

/** Whether `bytes` are printable ASCII, tabs and line ends, at least one, with NULs at the end only. */
export function isAsciiText(bytes: Buffer): boolean {
  const size = sizeBeforeNuls(bytes);
  return size > 0 && bytes.subarray(0, size).every(isPrintable);
}

/**
 * Whether `bytes` are UTF-16LE text of the Latin kind: an even number, every other byte zero, no control characters but
 * white space, NULs at the end only.
 */
export function isUtf16Text(bytes: Buffer): boolean {
  const size = sizeBeforeNuls(bytes);
  if (bytes.length % 2 !== 0 || size % 2 === 0) return false;
  for (let i = 0; i < size; i += 2) {
    const byte = bytes[i] ?? 0;
    if ((!isPrintable(byte) && byte < 0xa0) || bytes[i + 1] !== 0) return false;
  }
  return true;
}

/** Text of whatever encoding, without the NULs at its end. */
export function textData(bytes: Buffer, note: (quirk: Quirk) => void): EventData {
  if (isUtf16Text(bytes)) return { kind: 'text', text: utf16Text(bytes), encoding: 'utf16le' };
  const text = bytes.subarray(0, sizeBeforeNuls(bytes));
  if (isAscii(text)) return { kind: 'text', text: text.toString('latin1'), encoding: 'ascii' };
  if (isUtf8(text)) return { kind: 'text', text: text.toString('utf8'), encoding: 'utf8' };
  note('not_utf8');
  return { kind: 'text', text: text.toString('latin1'), encoding: 'latin1' };
}

/** UTF-16LE text without the NULs at its end. */
export const utf16Text = (bytes: Buffer): string =>
  bytes.toString('utf16le', 0, 2 * Math.ceil(sizeBeforeNuls(bytes) / 2));

/** UTF-16LE text of `units` code units. */
export function utf16(reader: Reader, units: number): string {
  const start = reader.take(2 * units);
  return reader.bytes.toString('utf16le', start, start + 2 * units);
}

/** UTF-16LE text of `bytes` up to the first NUL. */
export function utf16Before(bytes: Buffer): string {
  const text = bytes.toString('utf16le');
  const nul = text.indexOf('\0');
  return nul < 0 ? text : text.slice(0, nul);
}

/** UTF-16LE text up to its NUL, which is taken too. */
export function utf16BeforeNul(reader: Reader): string {
  const start = reader.offset;
  for (;;) {
    const unit = reader.take(2);
    if (reader.bytes.readUInt16LE(unit) === 0) return reader.bytes.toString('utf16le', start, unit);
  }
}
