import { constants, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { encode } from '@keylime/core/codec';
import { digest, digestSize, type HashAlgorithm } from '@keylime/core/digest';
import type { Curve } from '@keylime/tpm/algorithms';
import { CertifyAttest, QuoteAttest, type TpmsClockInfo } from '@keylime/tpm/attest';
import { AK_ATTRIBUTES } from '@keylime/tpm/key-checks';
import { PcrValues, pcrValues } from '@keylime/tpm/pcr-blob';
import { DATA_PCR, maskPcrs, pcrSelection, withDataPcr } from '@keylime/tpm/pcr-selection';
import { objectName, type TpmtPublic } from '@keylime/tpm/public';
import { encodeQuote } from '@keylime/tpm/quote';
import { TpmtSignature } from '@keylime/tpm/signature';

const CURVES = {
  ecc256: { curve: 'nist_p256', openssl: 'P-256' },
  ecc384: { curve: 'nist_p384', openssl: 'P-384' },
  ecc521: { curve: 'nist_p521', openssl: 'P-521' },
} as const satisfies Record<string, { curve: Curve; openssl: string }>;

export type SoftwareAkOptions = {
  readonly encryption?: 'rsa2048' | 'rsa3072' | 'rsa4096' | keyof typeof CURVES;
  /** By default RSASSA for RSA and ECDSA for ECC. */
  readonly signing?: 'rsassa' | 'rsapss' | 'ecdsa';
  readonly hash?: 'sha1' | 'sha256' | 'sha384' | 'sha512';
};

export type QuoteOptions = {
  readonly nonce: Uint8Array;
  /** Without PCR 16, which is always quoted. */
  readonly mask: number;
  /** PCRs that are not zero. */
  readonly pcrs?: ReadonlyMap<number, Buffer>;
  /** PEM text whose hash is in PCR 16. */
  readonly bindingPublicKeyPem?: string;
  readonly clockInfo?: Partial<TpmsClockInfo>;
};

/** A key that says what a TPM would say: for simulated fleets, benchmarks, and forgeries. */
export type SoftwareAk = {
  readonly public: TpmtPublic;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
  /** The TPMT_SIGNATURE of `bytes`. */
  readonly sign: (bytes: Uint8Array) => Buffer;
  /** The text of a quote. */
  readonly quote: (options: QuoteOptions) => string;
  /** TPMS_ATTEST and TPMT_SIGNATURE of a certification of the object named `name`. */
  readonly certify: (name: Uint8Array, qualifyingData: Uint8Array) => { attest: Buffer; signature: Buffer };
};

function publicArea(
  publicKey: KeyObject,
  encryption: string,
  scheme: TpmtPublic['scheme'],
  hash: HashAlgorithm,
): TpmtPublic {
  const jwk = publicKey.export({ format: 'jwk' });
  const part = (text: unknown) => Buffer.from(String(text), 'base64url');
  const common = {
    nameAlg: hash,
    objectAttributes: AK_ATTRIBUTES,
    authPolicy: Buffer.alloc(0),
    symmetric: { type: 'null' },
  } as const;
  if (encryption === 'ecc256' || encryption === 'ecc384' || encryption === 'ecc521') {
    const { curve } = CURVES[encryption];
    const unique = { x: part(jwk.x), y: part(jwk.y) };
    const eccScheme = scheme as (TpmtPublic & { type: 'ecc' })['scheme'];
    return { type: 'ecc', ...common, scheme: eccScheme, curve, kdf: { type: 'null' }, unique };
  }
  const rsaScheme = scheme as (TpmtPublic & { type: 'rsa' })['scheme'];
  const keyBits = Number(encryption.slice(3));
  return { type: 'rsa', ...common, scheme: rsaScheme, keyBits, exponent: 0, unique: part(jwk.n) };
}

function generate(encryption: NonNullable<SoftwareAkOptions['encryption']>) {
  if (encryption === 'ecc256' || encryption === 'ecc384' || encryption === 'ecc521') {
    return generateKeyPairSync('ec', { namedCurve: CURVES[encryption].openssl });
  }
  return generateKeyPairSync('rsa', { modulusLength: Number(encryption.slice(3)) });
}

/** Makes such a key; `privateKey` lets many simulated agents share one. */
export function softwareAk(options: SoftwareAkOptions & { readonly privateKey?: KeyObject } = {}): SoftwareAk {
  const { encryption = 'rsa2048', hash = 'sha256' } = options;
  const signing = options.signing ?? (encryption.startsWith('ecc') ? 'ecdsa' : 'rsassa');
  const privateKey = options.privateKey ?? generate(encryption).privateKey;
  const publicKey = createPublicKey(privateKey);
  const pub = publicArea(publicKey, encryption, { type: signing, hash }, hash);
  const name = objectName(pub);

  const signBytes = (bytes: Uint8Array): Buffer => {
    if (signing === 'ecdsa') {
      const joined = sign(hash, bytes, { key: privateKey, dsaEncoding: 'ieee-p1363' });
      const half = joined.length / 2;
      return encode(TpmtSignature, { type: signing, hash, r: joined.subarray(0, half), s: joined.subarray(half) });
    }
    const padding = signing === 'rsapss' ? constants.RSA_PKCS1_PSS_PADDING : constants.RSA_PKCS1_PADDING;
    return encode(TpmtSignature, { type: signing, hash, signature: sign(hash, bytes, { key: privateKey, padding }) });
  };

  const common = (nonce: Uint8Array, clockInfo: Partial<TpmsClockInfo> = {}) => ({
    magic: 0xff544347 as const,
    qualifiedSigner: name,
    extraData: Buffer.from(nonce),
    clockInfo: { clock: BigInt(Date.now()), resetCount: 1, restartCount: 0, safe: true, ...clockInfo },
    firmwareVersion: 1n,
  });

  return {
    public: pub,
    publicKey,
    privateKey,
    sign: signBytes,
    quote({ nonce, mask, pcrs, bindingPublicKeyPem, clockInfo }) {
      const zeros = Buffer.alloc(digestSize(hash));
      const bound =
        bindingPublicKeyPem === undefined ? zeros : digest(hash, zeros, digest(hash, Buffer.from(bindingPublicKeyPem)));
      const all = withDataPcr(mask);
      const values = maskPcrs(all).map((pcr) => pcrs?.get(pcr) ?? (pcr === DATA_PCR ? bound : zeros));
      const attested = { pcrSelect: [pcrSelection(hash, all)], pcrDigest: digest(hash, ...values) };
      const attest = encode(QuoteAttest, { ...common(nonce, clockInfo), type: 0x8018, attested });
      return encodeQuote({
        attest,
        signature: signBytes(attest),
        pcrBlob: encode(PcrValues, pcrValues(hash, all, values)),
      });
    },
    certify(certified, qualifyingData) {
      const attested = { name: Buffer.from(certified), qualifiedName: Buffer.from(certified) };
      const attest = encode(CertifyAttest, { ...common(qualifyingData), type: 0x8017, attested });
      return { attest, signature: signBytes(attest) };
    },
  };
}
