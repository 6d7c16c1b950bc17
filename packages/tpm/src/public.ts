import { createPublicKey, type KeyObject } from 'node:crypto';
import {
  counted,
  type Decoded,
  decode,
  encode,
  flags,
  named,
  nothing,
  struct,
  tagged,
  u16,
  u32,
} from '@keylime/core/codec';
import { digest } from '@keylime/core/digest';
import {
  algorithmIds,
  CURVE_BITS,
  type Curve,
  coordinateSize,
  curveId,
  type EncryptionAlgorithm,
  hashId,
} from './algorithms.ts';
import { tpm2bDigest, tpm2bEcc, tpm2bRsa } from './tpm2b.ts';

/** TPMA_OBJECT (TPM 2.0 Part 2 r1.59, 8.3): bit numbers. */
export const OBJECT_ATTRIBUTES = {
  fixedTPM: 1,
  stClear: 2,
  fixedParent: 4,
  sensitiveDataOrigin: 5,
  userWithAuth: 6,
  adminWithPolicy: 7,
  noDA: 10,
  encryptedDuplication: 11,
  restricted: 16,
  decrypt: 17,
  sign: 18,
  x509sign: 19,
} as const;

export type ObjectAttribute = keyof typeof OBJECT_ATTRIBUTES;

const objectAttributes = flags(u32, OBJECT_ATTRIBUTES);
export type ObjectAttributes = Decoded<typeof objectAttributes>;

/** The attributes named, all others clear. */
export const attributesOf = (...set: readonly ObjectAttribute[]): ObjectAttributes =>
  Object.fromEntries(
    Object.keys(OBJECT_ATTRIBUTES).map((name) => [name, set.includes(name as ObjectAttribute)]),
  ) as ObjectAttributes;

const blockCipher = struct({ keyBits: u16, mode: named(u16, algorithmIds('null', 'ctr', 'ofb', 'cbc', 'cfb', 'ecb')) });

/** TPMT_SYM_DEF_OBJECT (11.1.7). */
const TpmtSymDefObject = tagged(named(u16, algorithmIds('null', 'aes', 'sm4', 'camellia')), {
  null: nothing,
  aes: blockCipher,
  sm4: blockCipher,
  camellia: blockCipher,
});

const hashScheme = struct({ hash: hashId });
const ecdaaScheme = struct({ hash: hashId, count: u16 });

/** TPMT_RSA_SCHEME (11.2.4.2). */
const TpmtRsaScheme = tagged(named(u16, algorithmIds('null', 'rsassa', 'rsapss', 'rsaes', 'oaep')), {
  null: nothing,
  rsassa: hashScheme,
  rsapss: hashScheme,
  rsaes: nothing,
  oaep: hashScheme,
});

/** TPMT_ECC_SCHEME (11.2.5.6). */
const TpmtEccScheme = tagged(named(u16, algorithmIds('null', 'ecdsa', 'ecdaa', 'sm2', 'ecschnorr', 'ecdh', 'ecmqv')), {
  null: nothing,
  ecdsa: hashScheme,
  ecdaa: ecdaaScheme,
  sm2: hashScheme,
  ecschnorr: hashScheme,
  ecdh: hashScheme,
  ecmqv: hashScheme,
});

/** TPMT_SIG_SCHEME (11.2.1.5): how a key shall sign; `null` leaves it to the key's own scheme. */
export const TpmtSigScheme = tagged(
  named(u16, algorithmIds('null', 'rsassa', 'rsapss', 'ecdsa', 'ecdaa', 'sm2', 'ecschnorr')),
  {
    null: nothing,
    rsassa: hashScheme,
    rsapss: hashScheme,
    ecdsa: hashScheme,
    ecdaa: ecdaaScheme,
    sm2: hashScheme,
    ecschnorr: hashScheme,
  },
);
export type TpmtSigScheme = Decoded<typeof TpmtSigScheme>;

/** TPMT_KDF_SCHEME (11.2.3.3). */
const TpmtKdfScheme = tagged(named(u16, algorithmIds('null', 'mgf1', 'kdf1_sp800_56a', 'kdf2', 'kdf1_sp800_108')), {
  null: nothing,
  mgf1: hashScheme,
  kdf1_sp800_56a: hashScheme,
  kdf2: hashScheme,
  kdf1_sp800_108: hashScheme,
});

/** TPMS_ECC_POINT (11.2.5.2). */
export const TpmsEccPoint = struct({ x: tpm2bEcc, y: tpm2bEcc });

const common = { nameAlg: hashId, objectAttributes, authPolicy: tpm2bDigest, symmetric: TpmtSymDefObject };

/**
 * TPMT_PUBLIC (12.2.4) of an RSA or ECC key; other object types do not decode. `exponent` 0 means 65537.
 * Every structure that decodes encodes back to the same bytes.
 */
export const TpmtPublic = tagged(named(u16, algorithmIds('rsa', 'ecc')), {
  rsa: struct({ ...common, scheme: TpmtRsaScheme, keyBits: u16, exponent: u32, unique: tpm2bRsa }),
  ecc: struct({ ...common, scheme: TpmtEccScheme, curve: curveId, kdf: TpmtKdfScheme, unique: TpmsEccPoint }),
});
export type TpmtPublic = Decoded<typeof TpmtPublic>;

/** TPM2B_PUBLIC (12.2.5): u16 size, then a TPMT_PUBLIC of exactly that size. */
export const Tpm2bPublic = counted(u16, TpmtPublic);

/** Decodes a TPM2B_PUBLIC. Nothing is checked beyond its form. @throws DecodeError */
export const decodePublic = (tpm2bPublic: Uint8Array): TpmtPublic => decode(Tpm2bPublic, tpm2bPublic);

/** The TPM2B_PUBLIC of `pub`. */
export const encodePublic = (pub: TpmtPublic): Buffer => encode(Tpm2bPublic, pub);

/** A public area that is well formed and yet no usable key. */
export class TpmKeyError extends Error {
  readonly code = 'tpm_key_impossible';
  constructor(problem: string, options?: ErrorOptions) {
    super(problem, options);
    this.name = 'TpmKeyError';
  }
}

const JWK_CURVES: Partial<Record<Curve, string>> = { nist_p256: 'P-256', nist_p384: 'P-384', nist_p521: 'P-521' };

/** `bytes` with zeros in front to `size`. @throws TpmKeyError if they are longer. */
function leftPad(bytes: Buffer, size: number, what: string): Buffer {
  if (bytes.length > size) throw new TpmKeyError(`${what} has ${bytes.length} bytes, the curve's have ${size}`);
  return Buffer.concat([Buffer.alloc(size - bytes.length), bytes]);
}

function rsaJwk({ keyBits, exponent, unique }: TpmtPublic & { type: 'rsa' }) {
  const top = unique[0];
  if (unique.length * 8 !== keyBits || top === undefined || top < 0x80) {
    throw new TpmKeyError(`RSA modulus of ${unique.length} bytes is not a number of ${keyBits} bits`);
  }
  const e = exponent === 0 ? 65537 : exponent;
  if (e < 3 || e % 2 === 0 || (unique.at(-1) ?? 0) % 2 === 0) {
    throw new TpmKeyError('RSA modulus or exponent is even');
  }
  const exponentBytes = Buffer.alloc(4);
  exponentBytes.writeUInt32BE(e);
  return { kty: 'RSA', n: unique.toString('base64url'), e: exponentBytes.toString('base64url') };
}

function eccJwk({ curve, unique }: TpmtPublic & { type: 'ecc' }) {
  const crv = JWK_CURVES[curve];
  if (crv === undefined) throw new TpmKeyError(`curve ${curve} is not supported`);
  const size = coordinateSize(curve);
  const x = leftPad(unique.x, size, 'coordinate x').toString('base64url');
  const y = leftPad(unique.y, size, 'coordinate y').toString('base64url');
  return { kty: 'EC', crv, x, y };
}

/**
 * The key of a public area, for node:crypto. Short coordinates are padded on the left.
 * @throws TpmKeyError if the modulus has not `keyBits` bits, the point is not on the curve, or the curve is none of
 * P-256, P-384 and P-521.
 */
export function publicKey(pub: TpmtPublic): KeyObject {
  const jwk = pub.type === 'rsa' ? rsaJwk(pub) : eccJwk(pub);
  try {
    return createPublicKey({ key: jwk, format: 'jwk' });
  } catch (cause) {
    throw new TpmKeyError(pub.type === 'ecc' ? `point is not on ${pub.curve}` : 'not an RSA key', { cause });
  }
}

/** Key type and size by Keylime's name, such as `rsa2048` or `ecc256` (`enc_alg` of API 2.5 and later). */
export function encryptionAlgorithm(pub: TpmtPublic): EncryptionAlgorithm {
  if (pub.type === 'rsa') return `rsa${pub.keyBits}`;
  return pub.curve === 'sm2_p256' ? 'ecc_sm2_p256' : `ecc${CURVE_BITS[pub.curve]}`;
}

/** The Name of an object: its nameAlg (u16, big-endian) and the hash of its TPMT_PUBLIC (Part 1 r1.59, section 16). */
export const objectName = (pub: TpmtPublic): Buffer =>
  Buffer.concat([encode(hashId, pub.nameAlg), digest(pub.nameAlg, encode(TpmtPublic, pub))]);
