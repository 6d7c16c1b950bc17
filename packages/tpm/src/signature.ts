import { constants, type KeyObject, verify } from 'node:crypto';
import { type Decoded, named, struct, tagged, u16 } from '@keylime/core/codec';
import { algorithmIds, hashId } from './algorithms.ts';
import { tpm2bEcc, tpm2bRsa } from './tpm2b.ts';

const rsaSignature = struct({ hash: hashId, signature: tpm2bRsa });
const eccSignature = struct({ hash: hashId, r: tpm2bEcc, s: tpm2bEcc });

/** TPMT_SIGNATURE (TPM 2.0 Part 2 r1.59, 11.3.4). `type` is the signature algorithm. */
export const TpmtSignature = tagged(
  named(u16, algorithmIds('rsassa', 'rsapss', 'ecdsa', 'ecdaa', 'sm2', 'ecschnorr')),
  {
    rsassa: rsaSignature,
    rsapss: rsaSignature,
    ecdsa: eccSignature,
    ecdaa: eccSignature,
    sm2: eccSignature,
    ecschnorr: eccSignature,
  },
);
export type TpmtSignature = Decoded<typeof TpmtSignature>;

const COORDINATE_BYTES: Readonly<Record<string, number>> = { prime256v1: 32, secp384r1: 48, secp521r1: 66 };

/** A DER INTEGER of a number without sign. */
function derInteger(number: Buffer): Buffer {
  let start = 0;
  while (start < number.length - 1 && number[start] === 0) start++;
  const digits = number.subarray(start);
  const sign = (digits[0] ?? 0x80) >= 0x80 ? [0] : [];
  return Buffer.concat([Buffer.of(0x02, sign.length + digits.length, ...sign), digits]);
}

/** ECDSA-Sig-Value (RFC 3279, 2.2.3), or `undefined` if r or s is longer than a coordinate. Node verifies this form fastest. */
function ecdsaDer(key: KeyObject, { r, s }: { readonly r: Buffer; readonly s: Buffer }): Buffer | undefined {
  const size = COORDINATE_BYTES[key.asymmetricKeyDetails?.namedCurve ?? ''] ?? 0;
  if (r.length > size || s.length > size) return undefined;
  const numbers = Buffer.concat([derInteger(r), derInteger(s)]);
  const header = numbers.length < 0x80 ? [0x30, numbers.length] : [0x30, 0x81, numbers.length];
  return Buffer.concat([Buffer.from(header), numbers]);
}

/**
 * Whether `signature` is `key`'s over `signedBytes`. RSASSA, RSAPSS (MGF1 with the same hash, any salt length) and ECDSA
 * (r and s may be short) with SHA-1, SHA-256, SHA-384 and SHA-512; every other algorithm, and a key of another type
 * than the signature's, is `false`.
 */
export function verifySignature(key: KeyObject, signature: TpmtSignature, signedBytes: Uint8Array): boolean {
  if (signature.hash === 'sm3_256') return false;
  const keyType = key.asymmetricKeyType;
  switch (signature.type) {
    case 'rsassa':
      if (keyType !== 'rsa') return false;
      return verify(signature.hash, signedBytes, key, signature.signature);
    case 'rsapss': {
      if (keyType !== 'rsa' && keyType !== 'rsa-pss') return false;
      const pss = { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_AUTO };
      return verify(signature.hash, signedBytes, pss, signature.signature);
    }
    case 'ecdsa': {
      if (keyType !== 'ec') return false;
      const der = ecdsaDer(key, signature);
      return der !== undefined && verify(signature.hash, signedBytes, key, der);
    }
    case 'ecdaa':
    case 'sm2':
    case 'ecschnorr':
      return false;
  }
}
