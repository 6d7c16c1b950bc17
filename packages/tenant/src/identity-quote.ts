import { createPublicKey, timingSafeEqual } from 'node:crypto';
import { normalEncAlgName } from '@keylime/api/agent/algorithm-names';
import { parseBase64 } from '@keylime/core/base64';
import { DecodeError } from '@keylime/core/codec';
import { digest, digestSize, extend, isHashAlgorithm } from '@keylime/core/digest';
import { akProblems, describeKeyProblem } from '@keylime/tpm/key-checks';
import { DATA_PCR } from '@keylime/tpm/pcr-selection';
import { decodePublic, type TpmtPublic } from '@keylime/tpm/public';
import { declaredAlgorithmMismatches, verifyQuote } from '@keylime/tpm/quote';

/** What an agent answered to a request for an identity quote; nothing in it is verified. */
export type IdentityEvidence = {
  readonly quote: string;
  readonly hash_alg: string;
  readonly enc_alg: string;
  readonly sign_alg: string;
  /** PEM of the transport key. */
  readonly pubkey: string;
};

/** What the operator accepts, by the names of tenant.conf. */
export type AcceptedAlgorithms = {
  readonly hash: readonly string[];
  readonly encryption: readonly string[];
  readonly signing: readonly string[];
};

/** Why an identity quote does not show that the registered AK answers. `kind` is public. */
export type IdentityFailure =
  | { readonly kind: 'ak_malformed'; readonly problem: string }
  | { readonly kind: 'ak_not_restricted'; readonly problem: string }
  | { readonly kind: 'algorithm_not_accepted'; readonly which: keyof AcceptedAlgorithms; readonly found: string }
  | { readonly kind: 'algorithm_misdeclared'; readonly names: readonly string[] }
  | { readonly kind: 'quote'; readonly failure: string; readonly detail: string }
  | { readonly kind: 'transport_key_unbound' }
  | { readonly kind: 'transport_key_malformed' };

export type IdentityResult =
  | { readonly ok: true; readonly clockIsSafe: boolean }
  | { readonly ok: false; readonly failure: IdentityFailure };

/**
 * Verifies an identity quote with the AK that the registrar named (spec 02 section 3.6 with mask 0): algorithms accepted,
 * the AK a restricted signing key of a TPM, quote signed by it over this nonce and over PCR 16 alone, the declared
 * algorithms those that were used, and the transport key bound by PCR 16. The first failure ends it.
 */
export function verifyIdentityQuote(given: {
  readonly evidence: IdentityEvidence;
  /** base64 TPM2B_PUBLIC. */
  readonly akTpm: string;
  readonly nonce: string;
  readonly accepted: AcceptedAlgorithms;
}): IdentityResult {
  const { evidence, accepted } = given;
  const refuse = (failure: IdentityFailure): IdentityResult => ({ ok: false, failure });

  const { hash_alg: hashAlg, enc_alg: encAlg, sign_alg: signAlg } = evidence;
  const accepts = (list: readonly string[], name: string) =>
    list.some((one) => normalEncAlgName(one) === normalEncAlgName(name));
  if (!isHashAlgorithm(hashAlg) || !accepts(accepted.hash, hashAlg)) {
    return refuse({ kind: 'algorithm_not_accepted', which: 'hash', found: hashAlg });
  }
  if (!accepts(accepted.encryption, encAlg)) {
    return refuse({ kind: 'algorithm_not_accepted', which: 'encryption', found: encAlg });
  }
  if (!accepts(accepted.signing, signAlg)) {
    return refuse({ kind: 'algorithm_not_accepted', which: 'signing', found: signAlg });
  }

  const ak = decodeAk(given.akTpm);
  if (typeof ak === 'string') return refuse({ kind: 'ak_malformed', problem: ak });
  // [MUST] An existing registrar activates a software key, too, which can sign any quote (spec 02 G1).
  const [problem] = akProblems(ak);
  if (problem !== undefined) return refuse({ kind: 'ak_not_restricted', problem: describeKeyProblem(problem) });

  const result = verifyQuote({ text: evidence.quote, ak, hashAlg, nonce: Buffer.from(given.nonce), mask: 0 });
  if (!result.ok) {
    const { kind, ...detail } = result.failure;
    return refuse({ kind: 'quote', failure: kind, detail: JSON.stringify(detail) });
  }
  const misdeclared = declaredAlgorithmMismatches(result.quote, { hashAlg, encAlg, signAlg });
  if (misdeclared.length > 0) return refuse({ kind: 'algorithm_misdeclared', names: misdeclared });

  const bound = result.quote.pcrs.get(DATA_PCR);
  const wanted = extend(hashAlg, Buffer.alloc(digestSize(hashAlg)), digest(hashAlg, Buffer.from(evidence.pubkey)));
  if (bound === undefined || bound.length !== wanted.length || !timingSafeEqual(bound, wanted)) {
    return refuse({ kind: 'transport_key_unbound' });
  }
  if (!isRsaKey(evidence.pubkey)) return refuse({ kind: 'transport_key_malformed' });
  return { ok: true, clockIsSafe: result.quote.clockInfo.safe };
}

function decodeAk(akTpm: string): TpmtPublic | string {
  const bytes = parseBase64(akTpm);
  if (bytes === undefined) return 'aik_tpm is not base64';
  try {
    return decodePublic(bytes);
  } catch (error) {
    if (error instanceof DecodeError) return error.message;
    throw error;
  }
}

function isRsaKey(pem: string): boolean {
  try {
    return createPublicKey(pem).asymmetricKeyType === 'rsa';
  } catch {
    return false;
  }
}

/** `failure` in words for the operator. */
export function identityFailureText(failure: IdentityFailure, agentLabel: string, nonce: string): string {
  switch (failure.kind) {
    case 'algorithm_not_accepted':
      return (
        `TPM Quote from ${agentLabel} is using an unaccepted ${failure.which} algorithm: ${failure.found} ` +
        `(accept_tpm_${failure.which}_algs in tenant.conf says which are accepted)`
      );
    case 'algorithm_misdeclared':
      return `TPM Quote from ${agentLabel} declares algorithms that it does not use: ${failure.names.join(', ')}`;
    case 'ak_malformed':
      return `AK of ${agentLabel} is malformed: ${failure.problem}`;
    case 'ak_not_restricted':
      return `AK of ${agentLabel} may be a key outside of the TPM: ${failure.problem}`;
    case 'quote':
      return `TPM Quote from ${agentLabel} is invalid for nonce: ${nonce} (${failure.failure} ${failure.detail})`;
    case 'transport_key_unbound':
      return `TPM Quote from ${agentLabel} is invalid for nonce: ${nonce} (PCR 16 does not bind the key that came with it)`;
    case 'transport_key_malformed':
      return `TPM Quote from ${agentLabel} came with a transport key that is no RSA public key`;
  }
}
