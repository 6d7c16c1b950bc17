import { createHash, type KeyObject } from 'node:crypto';
import type { ImaMetadata } from './entry.ts';
import { type ImaSignature, SIGNATURE_HASHES } from './signature.ts';
import type { FileDigest } from './template-fields.ts';
import { verifyImaSignature } from './verify-signature.ts';

const SECURITY_IMA = 'security.ima';
/** First bytes of security.ima (Linux security/integrity/integrity.h `evm_ima_xattr_type`). */
const IMA_XATTR_DIGEST = 1;
const IMA_XATTR_DIGEST_NG = 4;

/**
 * Whether an EVM portable signature is by `key` over the metadata of the entry, and the metadata names the entry's own
 * digest: only then does it say anything about the file. Source: Linux security/integrity/evm/evm_crypto.c
 * `evm_calc_hmac_or_hash`, `hmac_add_misc`, on a kernel of 64 bits.
 */
export function verifyEvmSignature(
  signature: ImaSignature,
  metadata: ImaMetadata,
  fileDigest: FileDigest,
  key: KeyObject,
): boolean {
  if (signature.type !== 'evm_portable' || !namesDigest(metadata, fileDigest)) return false;
  const hash = createHash(signature.hashAlgorithm);
  for (const value of metadata.xattrValues) hash.update(value);
  return verifyImaSignature(signature, hash.update(inodeBytes(metadata)).digest(), key);
}

/** `struct h_misc` with inode number and generation 0, as portable signatures have it. */
function inodeBytes({ uid, gid, mode }: ImaMetadata): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32LE(uid, 12);
  bytes.writeUInt32LE(gid, 16);
  bytes.writeUInt16LE(mode, 20);
  return bytes;
}

/** Whether security.ima, among the signed attributes, is the digest that was measured, in the same algorithm. */
function namesDigest({ xattrNames, xattrValues }: ImaMetadata, { algorithm, hex, verity }: FileDigest): boolean {
  const value = xattrValues[xattrNames.indexOf(SECURITY_IMA)];
  if (value === undefined || verity) return false;
  if (value[0] === IMA_XATTR_DIGEST) return algorithm === 'sha1' && hexOf(value, 1) === hex;
  if (value[0] !== IMA_XATTR_DIGEST_NG) return false;
  return SIGNATURE_HASHES.get(value[1] ?? 0) === algorithm && hexOf(value, 2) === hex;
}

const hexOf = (bytes: Uint8Array, from: number): string => Buffer.from(bytes.subarray(from)).toString('hex');
