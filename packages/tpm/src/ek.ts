import { decode } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';
import { type Curve, coordinateSize } from './algorithms.ts';
import { policyA, policyB } from './ek-policy.ts';
import { nvIndices, readNv } from './nv.ts';
import { readObject, type TpmObject } from './object.ts';
import { createPrimary } from './primary.ts';
import { attributesOf, TpmtPublic } from './public.ts';
import { isTpmError } from './response-code.ts';
import type { Tpm } from './tpm.ts';

/** The kinds of EK that can be made, by the names of `tpm_encryption_alg`. */
export const EK_ALGORITHMS = ['rsa2048', 'rsa3072', 'rsa4096', 'ecc256', 'ecc384', 'ecc521'] as const;
export type EkAlgorithm = (typeof EK_ALGORITHMS)[number];

type Template = {
  readonly key: { readonly keyBits: number } | { readonly curve: Curve };
  readonly nameAlg: HashAlgorithm;
  /** Low-range templates (L-1, L-2) have PolicyA and a unique field of zeros; the others PolicyB and an empty one. */
  readonly range: 'low' | 'high';
  /** NV indices of the certificate and, in the low range, of a nonce and a template that replace the default. */
  readonly certificate: number;
  readonly nonce?: number;
  readonly template?: number;
};

/** TCG EK Credential Profile for TPM 2.0, 2.4, 2.2.1.4, 2.2.1.5 and B. */
const TEMPLATES: Readonly<Record<EkAlgorithm, Template>> = {
  rsa2048: {
    key: { keyBits: 2048 },
    nameAlg: 'sha256',
    range: 'low',
    certificate: 0x01c00002,
    nonce: 0x01c00003,
    template: 0x01c00004,
  },
  ecc256: {
    key: { curve: 'nist_p256' },
    nameAlg: 'sha256',
    range: 'low',
    certificate: 0x01c0000a,
    nonce: 0x01c0000b,
    template: 0x01c0000c,
  },
  rsa3072: { key: { keyBits: 3072 }, nameAlg: 'sha384', range: 'high', certificate: 0x01c0001c },
  rsa4096: { key: { keyBits: 4096 }, nameAlg: 'sha384', range: 'high', certificate: 0x01c0001e },
  ecc384: { key: { curve: 'nist_p384' }, nameAlg: 'sha384', range: 'high', certificate: 0x01c00016 },
  ecc521: { key: { curve: 'nist_p521' }, nameAlg: 'sha512', range: 'high', certificate: 0x01c00018 },
};

const CHAIN_FIRST = 0x01c00100;
const CHAIN_LAST = 0x01c001ff;

const STORAGE_KEY = [
  'fixedTPM',
  'fixedParent',
  'sensitiveDataOrigin',
  'adminWithPolicy',
  'restricted',
  'decrypt',
] as const;

/** The default template of an EK. Low range: attributes 0x000300B2 and AES-128; high range: 0x000300F2 and AES-256. */
export function ekTemplate(algorithm: EkAlgorithm): TpmtPublic {
  const { key, nameAlg, range } = TEMPLATES[algorithm];
  const low = range === 'low';
  const zeros = (size: number) => Buffer.alloc(low ? size : 0);
  const common = {
    nameAlg,
    objectAttributes: low ? attributesOf(...STORAGE_KEY) : attributesOf(...STORAGE_KEY, 'userWithAuth'),
    authPolicy: low ? policyA(nameAlg) : policyB(nameAlg),
    symmetric: { type: 'aes', keyBits: low ? 128 : 256, mode: 'cfb' },
    scheme: { type: 'null' },
  } as const;
  if ('keyBits' in key) {
    return { type: 'rsa', ...common, keyBits: key.keyBits, exponent: 0, unique: zeros(key.keyBits / 8) };
  }
  const size = coordinateSize(key.curve);
  return {
    type: 'ecc',
    ...common,
    curve: key.curve,
    kdf: { type: 'null' },
    unique: { x: zeros(size), y: zeros(size) },
  };
}

/** `template` with a manufacturer's nonce at the beginning of its unique field. */
function withNonce(template: TpmtPublic, nonce: Buffer): TpmtPublic {
  const fill = (size: number) => Buffer.concat([nonce, Buffer.alloc(Math.max(0, size - nonce.length))]);
  if (template.type === 'rsa') return { ...template, unique: fill(template.keyBits / 8) };
  const size = coordinateSize(template.curve);
  return { ...template, unique: { x: fill(size), y: Buffer.alloc(size) } };
}

/** The template that the manufacturer's certificate is for: the one in NV, else the default, with the nonce in NV. */
async function manufacturerTemplate(tpm: Tpm, algorithm: EkAlgorithm): Promise<TpmtPublic> {
  const { nonce: nonceIndex, template: templateIndex } = TEMPLATES[algorithm];
  const stored = templateIndex === undefined ? undefined : await readNv(tpm, templateIndex);
  const nonce = nonceIndex === undefined ? undefined : await readNv(tpm, nonceIndex);
  const template = stored === undefined ? ekTemplate(algorithm) : decode(TpmtPublic, stored);
  return nonce === undefined ? template : withNonce(template, nonce);
}

/**
 * Makes the EK of `algorithm`: always the same for one TPM. Transient: flush it after use.
 * `hierarchyAuth` is the endorsement hierarchy's auth value, empty by default.
 * @throws TpmError, DecodeError if the template in NV is malformed.
 */
export async function createEk(
  tpm: Tpm,
  algorithm: EkAlgorithm,
  options: { readonly hierarchyAuth?: Uint8Array } = {},
): Promise<TpmObject> {
  return createPrimary(tpm, await manufacturerTemplate(tpm, algorithm), options.hierarchyAuth);
}

/** The EK at a persistent handle (`ek_handle`). @throws TpmError `TPM_RC_HANDLE` if there is none. */
export const readEk = (tpm: Tpm, handle: number): Promise<TpmObject> => readObject(tpm, handle);

/** Size of the DER element at the start of `bytes`, or `undefined` if there is no whole one with a definite length. */
function derSize(bytes: Buffer): number | undefined {
  const length = bytes[1];
  if (bytes[0] !== 0x30 || length === undefined) return undefined;
  const digits = length < 0x80 ? 0 : length - 0x80;
  if (length === 0x80 || digits > 4 || bytes.length < 2 + digits) return undefined;
  const size = 2 + digits + (digits === 0 ? length : bytes.readUIntBE(2, digits));
  return size <= bytes.length ? size : undefined;
}

/** The certificates (DER SEQUENCEs) at the start of `bytes`; what follows them is padding. */
export function splitCertificates(bytes: Buffer): readonly Buffer[] {
  const certificates: Buffer[] = [];
  for (let rest = bytes; ; ) {
    const size = derSize(rest);
    if (size === undefined) return certificates;
    certificates.push(rest.subarray(0, size));
    rest = rest.subarray(size);
  }
}

/**
 * The manufacturer's certificate of the EK of `algorithm`, as DER without the padding that NV may hold after it;
 * `undefined` if there is none. Not verified in any way. What is not DER at all is returned whole, for the reader to refuse.
 */
export async function readEkCertificate(tpm: Tpm, algorithm: EkAlgorithm): Promise<Buffer | undefined> {
  const stored = await readNv(tpm, TEMPLATES[algorithm].certificate);
  return stored === undefined ? undefined : (splitCertificates(stored)[0] ?? stored);
}

/** The CA certificates that a manufacturer put into NV (indices 0x01C00100 to 0x01C001FF), in NV order, unverified. */
export async function readEkCertificateChain(tpm: Tpm): Promise<readonly Buffer[]> {
  const parts: Buffer[] = [];
  for (const index of await nvIndices(tpm, CHAIN_FIRST, CHAIN_LAST)) {
    try {
      const part = await readNv(tpm, index);
      if (part !== undefined) parts.push(part);
    } catch (error) {
      // A certificate may go on in the next index, so nothing after an unreadable one makes sense.
      if (isTpmError(error, 'TPM_RC_NV_AUTHORIZATION') || isTpmError(error, 'TPM_RC_NV_UNINITIALIZED')) break;
      throw error;
    }
  }
  return splitCertificates(Buffer.concat(parts));
}
