import { Reader, u16le, u32le } from '@keylime/core/codec';
import { readDevicePath } from './device-path.ts';
import { utf16BeforeNul } from './text.ts';

/** EFI_LOAD_OPTION (UEFI 2.10, 3.1.3), the value of `Boot####`. `filePathSize` in bytes. */
export type EfiLoadOption = {
  readonly attributes: number;
  /** LOAD_OPTION_ACTIVE. */
  readonly active: boolean;
  readonly description: string;
  readonly filePathSize: number;
  /** The file path list as text. */
  readonly devicePath: string;
  /** What the loader passes to the image. */
  readonly optionalData: Buffer;
};

/** @throws DecodeError */
export function readLoadOption(reader: Reader): EfiLoadOption {
  const attributes = u32le.read(reader);
  const filePathSize = u16le.read(reader);
  const description = utf16BeforeNul(reader);
  const start = reader.take(filePathSize);
  const end = reader.offset;
  const devicePath = readDevicePath(new Reader(reader.bytes, start, end, `${reader.path}.devicePath`));
  const optionalData = reader.bytes.subarray(reader.take(reader.end - end), reader.end);
  return { attributes, active: (attributes & 1) === 1, description, filePathSize, devicePath, optionalData };
}

/** `readLoadOption` of all of `bytes`: for covered bytes whose name is a hint. */
export const decodeLoadOption = (bytes: Uint8Array): EfiLoadOption => readLoadOption(new Reader(bytes));

/** The value of `BootOrder`: numbers of `Boot####`, first choice first. @throws DecodeError if a byte is left over. */
export function readBootOrder(reader: Reader): readonly number[] {
  const order: number[] = [];
  while (reader.offset < reader.end) order.push(u16le.read(reader));
  return order;
}

/** `readBootOrder` of all of `bytes`. */
export const decodeBootOrder = (bytes: Uint8Array): readonly number[] => readBootOrder(new Reader(bytes));
