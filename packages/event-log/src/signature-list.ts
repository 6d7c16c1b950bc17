import { type Decoded, Reader, restBytes, struct, u32le } from '@keylime/core/codec';
import { type Guid, guid } from './guid.ts';

/** EFI_SIGNATURE_DATA (UEFI 2.10, 32.4.1): a certificate, a hash or a key, and who put it there. */
export const EfiSignatureData = struct({ owner: guid, data: restBytes });
export type EfiSignatureData = Decoded<typeof EfiSignatureData>;

/** EFI_SIGNATURE_LIST: signatures of one type and one size. Sizes in bytes, `listSize` that of the whole list. */
export type EfiSignatureList = {
  readonly type: Guid;
  readonly listSize: number;
  readonly headerSize: number;
  readonly signatureSize: number;
  readonly signatures: readonly EfiSignatureData[];
};

const Header = struct({ type: guid, listSize: u32le, headerSize: u32le, signatureSize: u32le });
const HEADER_SIZE = 28;

function readList(reader: Reader): EfiSignatureList {
  const { type, listSize, headerSize, signatureSize } = Header.read(reader);
  const room = listSize - HEADER_SIZE - headerSize;
  if (room <= 0) reader.fail(`no room for signatures in a list of ${listSize} bytes with a header of ${headerSize}`);
  if (signatureSize < 16 || room % signatureSize !== 0) {
    reader.fail(`signatures of ${signatureSize} bytes in a place of ${room}`);
  }
  reader.take(headerSize);
  const start = reader.take(room);
  const signatures: EfiSignatureData[] = [];
  for (let offset = start; offset < reader.offset; offset += signatureSize) {
    const end = offset + signatureSize;
    signatures.push(EfiSignatureData.read(new Reader(reader.bytes, offset, end)));
  }
  return { type, listSize, headerSize, signatureSize, signatures };
}

/** A signature database, the value of PK, KEK, db and dbx: lists to the end. @throws DecodeError */
export function readSignatureDatabase(reader: Reader): readonly EfiSignatureList[] {
  const { path } = reader;
  const lists: EfiSignatureList[] = [];
  while (reader.offset < reader.end) {
    reader.path = `${path}[${lists.length}]`;
    lists.push(readList(reader));
  }
  reader.path = path;
  return lists;
}
