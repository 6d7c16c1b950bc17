import { isNonEmpty, type NonEmpty } from '@keylime/core/non-empty';
import type { Failure } from './failure.ts';

/** The checks of an appraisal, by what they look at. */
export type Check =
  | 'algorithms'
  | 'quote'
  | 'clock'
  | 'transport_key'
  | 'tpm_policy'
  | 'measured_boot'
  | 'runtime_integrity';

/** What one check found; no failures means that it passed. */
export type Finding = { readonly check: Check; readonly failures: readonly Failure[] };

/** `affirming` and `contraindicated` are AR4SI's words; `inconclusive` asks again and releases nothing. */
export type Conclusion =
  | { readonly verdict: 'affirming' }
  | { readonly verdict: 'contraindicated'; readonly failures: NonEmpty<Failure> }
  | { readonly verdict: 'inconclusive'; readonly missing: NonEmpty<Check> };

/** Folds findings into one conclusion. Silence is not consent: a required check without a finding is missing. */
export function conclude(required: readonly Check[], findings: readonly Finding[]): Conclusion {
  const failures = findings.flatMap((finding) => finding.failures);
  if (isNonEmpty(failures)) return { verdict: 'contraindicated', failures };
  const performed = new Set(findings.map((finding) => finding.check));
  const missing = required.filter((check) => !performed.has(check));
  return isNonEmpty(missing) ? { verdict: 'inconclusive', missing } : { verdict: 'affirming' };
}
