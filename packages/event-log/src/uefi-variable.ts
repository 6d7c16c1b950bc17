import { DecodeError, Reader } from '@keylime/core/codec';
import { type Guid, guid } from './guid.ts';
import { type EfiLoadOption, readBootOrder, readLoadOption } from './load-option.ts';
import type { Quirk } from './quirks.ts';
import { EfiSignatureData, type EfiSignatureList, readSignatureDatabase } from './signature-list.ts';
import { plainText, utf16 } from './text.ts';
import { readUintn, type UintnSize } from './uintn.ts';

/** UEFI_VARIABLE_DATA (TCG PFP 1.06, 10.2.5). `data` is the value as it is, `value` what its name says that it is. */
export type UefiVariable = {
  readonly guid: Guid;
  readonly name: string;
  readonly data: Buffer;
  readonly value: VariableValue;
};

export type VariableValue =
  /** A value of another name: see `data`. */
  | { readonly kind: 'bytes' }
  /** Not what its name promises: `problem` tells why. */
  | { readonly kind: 'malformed'; readonly problem: string }
  /** SecureBoot, MokListTrusted: on for any value but 0. */
  | { readonly kind: 'switch'; readonly on: boolean }
  /** PK, KEK, db, dbx. */
  | { readonly kind: 'signature_database'; readonly lists: readonly EfiSignatureList[] }
  /** The certificate or hash that let an image start. Old shim leaves the owner out. */
  | { readonly kind: 'authority'; readonly owner: Guid | undefined; readonly data: Buffer }
  | { readonly kind: 'boot_order'; readonly order: readonly number[] }
  | ({ readonly kind: 'load_option' } & EfiLoadOption)
  /** SbatLevel: lines of component and generation. */
  | { readonly kind: 'text'; readonly text: string };

/** What kind of event a variable came with decides how its value is read. */
export type VariableUse = 'config' | 'boot' | 'authority';

const DATABASES: ReadonlySet<string> = new Set(['PK', 'KEK', 'db', 'dbx']);
const AUTHORITIES: ReadonlySet<string> = new Set(['db', 'Shim', 'vendor_db', 'MokListRT']);
const OWNER_SIZE = 16;
/** Bytes behind the certificate in an old shim's authority. */
const OLD_SHIM_EXCESS = 6;

/** Reads a variable that fills the reader, but for the bytes that old shim leaves behind it. @throws DecodeError */
export function readUefiVariable(
  reader: Reader,
  use: VariableUse,
  uintn: UintnSize,
  note: (quirk: Quirk) => void,
): UefiVariable {
  const owner = guid.read(reader);
  reader.path = 'nameLength';
  const nameLength = readUintn(reader, uintn);
  reader.path = 'dataLength';
  const dataLength = readUintn(reader, uintn);
  reader.path = 'name';
  const name = utf16(reader, nameLength);
  reader.path = 'data';
  const left = reader.end - reader.offset;
  const oldShim = use === 'authority' && left === dataLength + OLD_SHIM_EXCESS;
  if (oldShim) note('shim_authority_without_owner');
  else if (left !== dataLength) reader.fail(`${dataLength} bytes said, ${left} there`);
  const start = reader.take(dataLength);
  const data = reader.bytes.subarray(start, reader.offset);
  const valueReader = new Reader(reader.bytes, start, reader.offset, 'value');
  reader.take(left - dataLength);
  const value = oldShim
    ? ({ kind: 'authority', owner: undefined, data } as const)
    : readValueOr(valueReader, use, name, data, note);
  return { guid: owner, name, data, value };
}

function readValueOr(
  reader: Reader,
  use: VariableUse,
  name: string,
  data: Buffer,
  note: (quirk: Quirk) => void,
): VariableValue {
  try {
    return readValue(reader, use, name, data, note);
  } catch (error) {
    if (error instanceof DecodeError) return { kind: 'malformed', problem: error.message };
    throw error;
  }
}

function readValue(
  reader: Reader,
  use: VariableUse,
  name: string,
  data: Buffer,
  note: (quirk: Quirk) => void,
): VariableValue {
  switch (use) {
    case 'config':
      if (DATABASES.has(name)) return { kind: 'signature_database', lists: readSignatureDatabase(reader) };
      if (name !== 'SecureBoot') return { kind: 'bytes' };
      if (data.length === 0) note('secure_boot_empty');
      return readSwitch(reader, data);
    case 'authority':
      if (AUTHORITIES.has(name)) {
        if (data.length < OWNER_SIZE) reader.fail(`no owner in ${data.length} bytes`);
        return { kind: 'authority', ...EfiSignatureData.read(reader) };
      }
      if (name === 'MokListTrusted') return readSwitch(reader, data);
      return name === 'SbatLevel' ? { kind: 'text', text: plainText(data) } : { kind: 'bytes' };
    case 'boot':
      if (name === 'BootOrder') return { kind: 'boot_order', order: readBootOrder(reader) };
      return /^Boot[0-9a-fA-F]{4}$/.test(name) ? { kind: 'load_option', ...readLoadOption(reader) } : { kind: 'bytes' };
  }
}

function readSwitch(reader: Reader, data: Buffer): VariableValue {
  if (data.length > 1) reader.fail(`a switch of ${data.length} bytes`);
  return { kind: 'switch', on: (data[0] ?? 0) !== 0 };
}
