import { KeyObject, timingSafeEqual } from 'node:crypto';
import type { Brand } from '@keylime/core/brand';
import { type Codec, DecodeError, decode } from '@keylime/core/codec';
import { CertifyAttest } from './attest.ts';
import { publicKey, TpmKeyError, type TpmtPublic } from './public.ts';
import { TpmtSignature, verifySignature } from './signature.ts';

/** Why a certification was not accepted. `kind` is public. */
export type CertifyFailure =
  | { readonly kind: 'certify_malformed'; readonly part: 'attest' | 'signature'; readonly problem: string }
  | { readonly kind: 'certify_signer_unusable'; readonly problem: string }
  | { readonly kind: 'certify_signature_invalid' }
  | { readonly kind: 'certify_qualifying_data_mismatch' }
  | { readonly kind: 'certify_name_mismatch' };

/** A certification whose signature, qualifying data and object Name are right. */
export type VerifiedCertify = Brand<CertifyAttest, 'VerifiedCertify'>;

export type CertifyResult =
  | { readonly ok: true; readonly certify: VerifiedCertify }
  | { readonly ok: false; readonly failure: CertifyFailure };

const failed = (failure: CertifyFailure): CertifyResult => ({ ok: false, failure });

function decodePart<T>(part: 'attest' | 'signature', codec: Codec<T>, bytes: Uint8Array): T | CertifyFailure {
  try {
    return decode(codec, bytes);
  } catch (error) {
    if (error instanceof DecodeError) return { kind: 'certify_malformed', part, problem: error.message };
    throw error;
  }
}

function signerKey(signer: KeyObject | TpmtPublic): KeyObject | CertifyFailure {
  if (signer instanceof KeyObject) return signer;
  try {
    return publicKey(signer);
  } catch (error) {
    if (error instanceof TpmKeyError) return { kind: 'certify_signer_unusable', problem: error.message };
    throw error;
  }
}

const equal = (a: Uint8Array, b: Uint8Array): boolean => a.length === b.length && timingSafeEqual(a, b);

/**
 * Checks the outcome of TPM2_Certify: that `signer`'s TPM holds the object named `certifiedName`, said in answer to one
 * of `qualifyingData`. `attest` is a TPMS_ATTEST, `signature` a TPMT_SIGNATURE, both without sizes. The signer's
 * own trust is the caller's business, its attributes too (key-checks.ts).
 */
export function verifyCertify(options: {
  readonly attest: Uint8Array;
  readonly signature: Uint8Array;
  readonly signer: KeyObject | TpmtPublic;
  readonly qualifyingData: readonly Uint8Array[];
  readonly certifiedName: Uint8Array;
}): CertifyResult {
  const attest = decodePart('attest', CertifyAttest, options.attest);
  if ('kind' in attest) return failed(attest);
  const signature = decodePart('signature', TpmtSignature, options.signature);
  if ('kind' in signature) return failed(signature);
  const key = signerKey(options.signer);
  if ('kind' in key) return failed(key);
  if (!options.qualifyingData.some((data) => equal(data, attest.extraData))) {
    return failed({ kind: 'certify_qualifying_data_mismatch' });
  }
  if (!equal(options.certifiedName, attest.attested.name)) return failed({ kind: 'certify_name_mismatch' });
  if (!verifySignature(key, signature, options.attest)) return failed({ kind: 'certify_signature_invalid' });
  return { ok: true, certify: attest as VerifiedCertify };
}
