import { generateKeyPairSync, type KeyObject, privateEncrypt } from 'node:crypto';
import { p256, p384, p521 } from '@noble/curves/nist.js';
import { secp256k1 } from '@noble/curves/secp256k1.js';
import { computedKeyId } from './public-key.ts';

/** A key pair that signs measured digests, as `evmctl` does. For tests of this and of neighbouring packages. */
export type SigningFixture = {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
  readonly keyId: number;
  /** The blob of security.ima or security.evm over a digest; `changes` go into the header. */
  readonly sign: (digest: Uint8Array, changes?: Partial<BlobHeader>) => Buffer;
};

export type BlobHeader = {
  readonly type: number;
  readonly version: number;
  readonly hashId: number;
  readonly keyId: number;
};

const CURVES = { 'P-256': p256, 'P-384': p384, 'P-521': p521, secp256k1 } as const;

export type FixtureKind = 'rsa' | keyof typeof CURVES;

/** DigestInfo before a SHA-256 digest (RFC 8017 section 9.2, note 1), written out again so that a slip shows. */
const SHA256_INFO = Buffer.from('3031300d060960864801650304020105000420', 'hex');

/** A fresh key. Digests of RSA signatures must be SHA-256. */
export function signingFixture(kind: FixtureKind): SigningFixture {
  const { publicKey, privateKey } =
    kind === 'rsa'
      ? generateKeyPairSync('rsa', { modulusLength: 2048 })
      : generateKeyPairSync('ec', { namedCurve: kind });
  const keyId = computedKeyId(publicKey);
  return {
    publicKey,
    privateKey,
    keyId,
    sign(digest, changes = {}) {
      const header = { type: 3, version: 2, hashId: 4, keyId, ...changes };
      return signatureBlob(header, kind === 'rsa' ? signRsa(privateKey, digest) : signEc(kind, privateKey, digest));
    },
  };
}

/** `struct signature_v2_hdr` behind its type byte. */
export function signatureBlob({ type, version, hashId, keyId }: BlobHeader, signature: Uint8Array): Buffer {
  const blob = Buffer.alloc(9 + signature.length);
  blob.set([type, version, hashId]);
  blob.writeUInt32BE(keyId, 3);
  blob.writeUInt16BE(signature.length, 7);
  blob.set(signature, 9);
  return blob;
}

/** RSASSA-PKCS1-v1_5 over a digest: node:crypto calls it encryption where it does not hash. */
const signRsa = (key: KeyObject, digest: Uint8Array): Buffer =>
  privateEncrypt(key, Buffer.concat([SHA256_INFO, digest]));

function signEc(kind: keyof typeof CURVES, key: KeyObject, digest: Uint8Array): Buffer {
  const secret = Buffer.from(key.export({ format: 'jwk' }).d ?? '', 'base64url');
  return Buffer.from(CURVES[kind].sign(digest, secret, { prehash: false, lowS: false, format: 'der' }));
}
