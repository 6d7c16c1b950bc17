import { type Codec, fixedBytes } from '@keylime/core/codec';

/** A GUID as lower-case text, `8-4-4-4-12`. */
export type Guid = string;

const guidBytes = fixedBytes(16);

/** EFI_GUID (UEFI 2.10, appendix A): the first three fields are little-endian, the other eight bytes in order. */
export const guid: Codec<Guid> = {
  read: (reader) => {
    const hex = guidBytes.read(reader).toString('hex');
    // Parts of one string, not bytes one by one: signature databases have thousands of them.
    const first = hex.slice(6, 8) + hex.slice(4, 6) + hex.slice(2, 4) + hex.slice(0, 2);
    const [second, third] = [hex.slice(10, 12) + hex.slice(8, 10), hex.slice(14, 16) + hex.slice(12, 14)];
    return `${first}-${second}-${third}-${hex.slice(16, 20)}-${hex.slice(20)}`;
  },
  write: (writer, value) => {
    if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(value)) throw new RangeError(`${value} is not a GUID`);
    const bytes = Buffer.from(value.replaceAll('-', ''), 'hex');
    bytes.subarray(0, 4).reverse();
    bytes.subarray(4, 6).reverse();
    bytes.subarray(6, 8).reverse();
    writer.push(bytes);
  },
};

/** Owners of UEFI variables. */
export const VARIABLE_GUIDS = {
  global: '8be4df61-93ca-11d2-aa0d-00e098032b8c',
  imageSecurityDatabase: 'd719b2cb-3d3a-4596-a3bc-dad00e67656f',
  shimLock: '605dab50-e046-4300-abb6-3dd810dd8b23',
} as const satisfies Readonly<Record<string, Guid>>;

/** What the entries of a signature list are (UEFI 2.10, 32.4.1). */
export const SIGNATURE_TYPES = {
  x509: 'a5c059a1-94e4-4aa7-87b5-ab155c2bf072',
  sha1: '826ca512-cf10-4ac9-b187-be01496631bd',
  sha224: '0b6e5233-a65c-44c9-9407-d9ab83bfc8bd',
  sha256: 'c1c41626-504c-4092-aca9-41f936934328',
  sha384: 'ff3e5307-9fd0-48c9-85f1-8ad56c701e01',
  sha512: '093e0fae-a6c4-4f50-9f1b-d41e2b89c19a',
  rsa2048: '3c5766e8-269c-4e34-aa14-ed776e85b3b6',
  rsa2048Sha256: 'e2b36190-879b-4a3d-ad8d-f2e7bba32784',
  rsa2048Sha1: '67f8444f-8743-48f1-a328-1eaab8736080',
  x509Sha256: '3bd2a492-96c0-4079-b420-fcf98ef103ed',
  x509Sha384: '7076876e-80c2-4ee6-aad2-28b349a6865b',
  x509Sha512: '446dbf63-2502-4cda-bcfa-2465d2b0fe9d',
} as const satisfies Readonly<Record<string, Guid>>;
