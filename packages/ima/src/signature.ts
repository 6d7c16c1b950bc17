import { bad, good, type Parsed } from '@keylime/core/parsed';

/** What the first byte says the signature is about (Linux security/integrity/integrity.h `evm_ima_xattr_type`). */
const SIGNATURE_TYPES = { 3: 'file', 5: 'evm_portable', 6: 'verity' } as const;

export type SignatureType = (typeof SIGNATURE_TYPES)[keyof typeof SIGNATURE_TYPES];

/**
 * Hash algorithms by their number in the header (Linux include/uapi/linux/hash_info.h), those that both the kernel signs
 * with and node:crypto knows, under the name that the measurement list prints.
 */
export const SIGNATURE_HASHES: ReadonlyMap<number, string> = new Map([
  [1, 'md5'],
  [2, 'sha1'],
  [4, 'sha256'],
  [5, 'sha384'],
  [6, 'sha512'],
  [7, 'sha224'],
  [20, 'sha3-256'],
  [21, 'sha3-384'],
  [22, 'sha3-512'],
]);

/** A signature of a file or of its metadata, as the kernel keeps it in an extended attribute. Nothing is verified. */
export type ImaSignature = {
  readonly type: SignatureType;
  /** 2: over the digest itself; 3: over a hash of type, algorithm and digest. */
  readonly version: 2 | 3;
  /** The first byte of the blob. */
  readonly typeId: number;
  readonly hashId: number;
  /** As the list prints it. */
  readonly hashAlgorithm: string;
  readonly keyId: number;
  /** RSASSA-PKCS1-v1_5, or ECDSA in DER. */
  readonly signature: Uint8Array;
};

export type SignatureProblem = 'length' | 'type' | 'version' | 'hash_algorithm';

const HEADER_BYTES = 9;

/**
 * Decodes `struct signature_v2_hdr`, after the type byte: version u8, hash u8, key id u32, size u16, signature; numbers are
 * big-endian. Source: Linux security/integrity/integrity.h.
 */
export function parseImaSignature(bytes: Uint8Array): Parsed<ImaSignature, SignatureProblem> {
  if (bytes.length < HEADER_BYTES) return bad('length');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const typeId = view.getUint8(0);
  const version = view.getUint8(1);
  const hashId = view.getUint8(2);
  if (HEADER_BYTES + view.getUint16(7) !== bytes.length) return bad('length');
  if (!isSignatureTypeId(typeId)) return bad('type');
  // fs-verity signatures never were over the bare digest, which could be taken for that of a file.
  if (version !== 3 && (version !== 2 || typeId === 6)) return bad('version');
  const hashAlgorithm = SIGNATURE_HASHES.get(hashId);
  if (hashAlgorithm === undefined) return bad('hash_algorithm');
  return good({
    type: SIGNATURE_TYPES[typeId],
    version,
    typeId,
    hashId,
    hashAlgorithm,
    keyId: view.getUint32(3),
    signature: bytes.subarray(HEADER_BYTES),
  });
}

/**
 * The key id in a header of version 2 or 3, whatever else is wrong with the signature; `undefined` where there is no such
 * header.
 */
export function keyIdIn(bytes: Uint8Array): number | undefined {
  const version = bytes[1];
  if (bytes.length < KEY_ID_END || (version !== 2 && version !== 3)) return undefined;
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).readUInt32BE(KEY_ID_END - 4);
}

const KEY_ID_END = 7;

/** Whether the kernel puts a signature that begins with this byte into a list. */
export const isSignatureTypeId = (id: number): id is keyof typeof SIGNATURE_TYPES => Object.hasOwn(SIGNATURE_TYPES, id);

/** A key id as operators see it in `/proc/keys` and `evmctl`. */
export const keyIdText = (keyId: number): string => keyId.toString(16).padStart(8, '0');
