import type { ClockProblem } from '@keylime/tpm/clock';
import type { QuoteFailure } from '@keylime/tpm/quote';
import type { AlgorithmFailure } from './algorithms.ts';
import type { BootFailure } from './boot-verdict.ts';
import type { EvidenceProblem } from './evidence.ts';
import type { PcrFailure } from './pcr-policy.ts';
import type { RuntimeIntegrityFailure } from './runtime-integrity.ts';

/** Why evidence was not accepted. `kind` is public: events, metrics and operators' tools switch on it. */
export type Failure =
  | EvidenceProblem
  | AlgorithmFailure
  | QuoteFailure
  | ClockProblem
  | PcrFailure
  | BootFailure
  | RuntimeIntegrityFailure
  | { readonly kind: 'transport_key_missing' }
  | { readonly kind: 'ima_entry_unexpected'; readonly found: number; readonly requested: number }
  | { readonly kind: 'ima_list_missing' };
