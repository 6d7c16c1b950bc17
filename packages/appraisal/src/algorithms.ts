import { canonicalEncryptionAlgorithm } from '@keylime/tpm/algorithms';
import { declaredAlgorithmMismatches, type VerifiedQuote } from '@keylime/tpm/quote';
import type { PullEvidence } from './evidence.ts';

/** The algorithms that an operator accepts, by the names of the existing tools (`rsa` and `ecc` for the first sizes). */
export type AcceptedAlgorithms = {
  readonly hash: readonly string[];
  readonly encryption: readonly string[];
  readonly signing: readonly string[];
};

export type AlgorithmUse = keyof AcceptedAlgorithms;
export type AlgorithmNames = { readonly [K in AlgorithmUse]: string };

export type AlgorithmFailure =
  | {
      readonly kind: 'algorithm_not_accepted';
      readonly use: AlgorithmUse;
      readonly found: string;
      readonly accepted: readonly string[];
    }
  | {
      readonly kind: 'algorithm_misdeclared';
      readonly use: AlgorithmUse;
      readonly declared: string;
      readonly actual: string;
    };

export const declaredAlgorithms = (evidence: PullEvidence): AlgorithmNames => ({
  hash: evidence.hashAlg,
  encryption: evidence.encAlg,
  signing: evidence.signAlg,
});

/** 02 section 3.5 of the reference: acceptance is judged on the names that were declared. */
export const unacceptedAlgorithms = (
  declared: AlgorithmNames,
  accepted: AcceptedAlgorithms,
): readonly AlgorithmFailure[] =>
  (['hash', 'encryption', 'signing'] as const).flatMap((use): AlgorithmFailure[] =>
    accepted[use].some((name) => canonicalEncryptionAlgorithm(name) === canonicalEncryptionAlgorithm(declared[use]))
      ? []
      : [{ kind: 'algorithm_not_accepted', use, found: declared[use], accepted: accepted[use] }],
  );

/** A declared name must be that of the key and the signature, or acceptance would judge a claim (02 G5). */
export const misdeclaredAlgorithms = (quote: VerifiedQuote, evidence: PullEvidence): readonly AlgorithmFailure[] =>
  declaredAlgorithmMismatches(quote, evidence).map((field): AlgorithmFailure => {
    const use = ({ hashAlg: 'hash', encAlg: 'encryption', signAlg: 'signing' } as const)[field];
    return { kind: 'algorithm_misdeclared', use, declared: evidence[field], actual: quote[field] };
  });
