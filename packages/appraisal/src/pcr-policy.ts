import { digest, digestSize, extend } from '@keylime/core/digest';
import type { TpmPolicy } from '@keylime/policies/tpm-policy';
import { DATA_PCR } from '@keylime/tpm/pcr-selection';
import type { VerifiedQuote } from '@keylime/tpm/quote';

export type PcrFailure =
  | { readonly kind: 'binding_pcr_missing' }
  | { readonly kind: 'binding_pcr_mismatch'; readonly expected: string; readonly found: string }
  | {
      readonly kind: 'pcr_not_allowed';
      readonly pcr: number;
      readonly found: string;
      readonly allowed: readonly string[];
    }
  | { readonly kind: 'pcrs_missing'; readonly pcrs: readonly number[] };

/**
 * PCR 16 binds the transport key to the quote: it must be `H(zeros || H(PEM))`, the PEM byte for byte as it came
 * (02 section 3.2 of the reference).
 */
export function appraiseBinding(quote: VerifiedQuote, transportKeyPem: string): readonly PcrFailure[] {
  const found = quote.pcrs.get(DATA_PCR);
  if (found === undefined) return [{ kind: 'binding_pcr_missing' }];
  const zeros = Buffer.alloc(digestSize(quote.bank));
  const expected = extend(quote.bank, zeros, digest(quote.bank, Buffer.from(transportKeyPem)));
  return expected.equals(found)
    ? []
    : [{ kind: 'binding_pcr_mismatch', expected: expected.toString('hex'), found: found.toString('hex') }];
}

/** Every PCR of the policy must have been quoted with one of its values (Q15, Q16). */
export function appraisePcrs(quote: VerifiedQuote, policy: TpmPolicy): readonly PcrFailure[] {
  const missing = [...policy.pcrs.keys()].filter((pcr) => !quote.pcrs.has(pcr));
  const wrong = [...policy.pcrs].flatMap(([pcr, allowed]): PcrFailure[] => {
    const found = quote.pcrs.get(pcr)?.toString('hex');
    return found === undefined || allowed.has(found)
      ? []
      : [{ kind: 'pcr_not_allowed', pcr, found, allowed: [...allowed] }];
  });
  return missing.length > 0 ? [...wrong, { kind: 'pcrs_missing', pcrs: missing }] : wrong;
}
