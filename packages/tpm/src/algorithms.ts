import { named, u16 } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';

export type { HashAlgorithm } from '@keylime/core/digest';

/** TPM_ALG_ID (TCG Algorithm Registry r1.34, table 3): the ones that keys, schemes, banks and capabilities name. */
export const TPM_ALG = {
  rsa: 0x0001,
  sha1: 0x0004,
  hmac: 0x0005,
  aes: 0x0006,
  mgf1: 0x0007,
  keyedhash: 0x0008,
  sha256: 0x000b,
  sha384: 0x000c,
  sha512: 0x000d,
  null: 0x0010,
  sm3_256: 0x0012,
  sm4: 0x0013,
  rsassa: 0x0014,
  rsaes: 0x0015,
  rsapss: 0x0016,
  oaep: 0x0017,
  ecdsa: 0x0018,
  ecdh: 0x0019,
  ecdaa: 0x001a,
  sm2: 0x001b,
  ecschnorr: 0x001c,
  ecmqv: 0x001d,
  kdf1_sp800_56a: 0x0020,
  kdf2: 0x0021,
  kdf1_sp800_108: 0x0022,
  ecc: 0x0023,
  symcipher: 0x0025,
  camellia: 0x0026,
  ctr: 0x0040,
  ofb: 0x0041,
  cbc: 0x0042,
  cfb: 0x0043,
  ecb: 0x0044,
} as const;

export type TpmAlgorithm = keyof typeof TPM_ALG;

/** Some names of `TPM_ALG` with their ids, as the table of a codec. */
export const algorithmIds = <const N extends readonly TpmAlgorithm[]>(...names: N) =>
  Object.fromEntries(names.map((name) => [name, TPM_ALG[name]])) as { readonly [K in N[number]]: number };

export const HASH_IDS = algorithmIds('sha1', 'sha256', 'sha384', 'sha512', 'sm3_256');

/** TPMI_ALG_HASH (Part 2 r1.59, 9.29): a u16. */
export const hashId = named(u16, HASH_IDS);

/** Signing algorithms as Keylime writes them in `sign_alg`. */
export type SigningAlgorithm = 'rsassa' | 'rsapss' | 'ecdsa' | 'ecdaa' | 'sm2' | 'ecschnorr';

/** TPM_ECC_CURVE (TCG Algorithm Registry r1.34, table 4). */
export const CURVE_IDS = {
  nist_p192: 0x0001,
  nist_p224: 0x0002,
  nist_p256: 0x0003,
  nist_p384: 0x0004,
  nist_p521: 0x0005,
  sm2_p256: 0x0020,
} as const;

export type Curve = keyof typeof CURVE_IDS;

/** TPMI_ECC_CURVE: a u16. */
export const curveId = named(u16, CURVE_IDS);

/** The bits of a coordinate of each curve. */
export const CURVE_BITS = {
  nist_p192: 192,
  nist_p224: 224,
  nist_p256: 256,
  nist_p384: 384,
  nist_p521: 521,
  sm2_p256: 256,
} as const satisfies Record<Curve, number>;

/** Bytes of a coordinate of `curve` with all leading zeros. */
export const coordinateSize = (curve: Curve): number => Math.ceil(CURVE_BITS[curve] / 8);

/** Key type with size as Keylime writes it in `enc_alg` since API 2.5, such as `rsa2048` or `ecc256`. */
export type EncryptionAlgorithm = `rsa${number}` | `ecc${number}` | 'ecc_sm2_p256';

const ENCRYPTION_ALIASES: Readonly<Record<string, EncryptionAlgorithm>> = {
  rsa: 'rsa2048',
  ecc: 'ecc256',
  ecc_nist_p192: 'ecc192',
  ecc_nist_p224: 'ecc224',
  ecc_nist_p256: 'ecc256',
  ecc_nist_p384: 'ecc384',
  ecc_nist_p521: 'ecc521',
  ecc_sm2: 'ecc_sm2_p256',
};

/** `rsa` and `ecc` are the old words for `rsa2048` and `ecc256`; every other name stays what it is. */
export const canonicalEncryptionAlgorithm = (name: string): string =>
  Object.hasOwn(ENCRYPTION_ALIASES, name) ? (ENCRYPTION_ALIASES[name] ?? name) : name;

/** The hash algorithm of a TPM_ALG_ID, or `undefined` for an id that is none of ours (SHA-3 banks exist). */
export const findHash = (id: number): HashAlgorithm | undefined =>
  (Object.keys(HASH_IDS) as HashAlgorithm[]).find((name) => HASH_IDS[name] === id);
