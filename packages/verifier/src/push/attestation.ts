import type { LogCapabilities, QuoteCapabilities } from '@keylime/api/push-capabilities';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { AgentId } from '@keylime/core/agent-id';
import type { Chosen } from './negotiate.ts';

/** What an agent offered of the evidence that it was then asked for, in that order, and its word on when it booted. */
export type Offered = {
  readonly evidence: readonly {
    readonly evidence_class: 'certification' | 'log';
    readonly evidence_type: 'tpm_quote' | 'uefi_log' | 'ima_log';
    readonly capabilities: QuoteCapabilities | LogCapabilities;
  }[];
  /** As the push protocol writes times. */
  readonly bootTime: string;
};

/** What is kept of the evidence: the quote in base64, of the logs how much there was. */
export type Collected = {
  readonly message: string;
  readonly signature: string;
  readonly subjectData: string;
  /** Bytes of the boot event log, where it was asked for. */
  readonly uefiLogBytes?: number;
  /** Entries of the measurement list, where it was asked for. */
  readonly imaLogEntries?: number;
  /** Where the list is judged over several rounds: the first entry that those before the last one left. */
  readonly imaLogJudgedTo?: number;
};

/** One attestation of an agent that sends its evidence by itself: from its capabilities to the verdict. */
export type Attestation = {
  readonly agentId: AgentId;
  /** 0, 1, 2 … for each agent. */
  readonly number: number;
  /** The verifier that judges it. */
  readonly verifierId: string;
  readonly stage: 'awaiting_evidence' | 'evaluating_evidence' | 'verification_complete';
  readonly evaluation: 'pending' | 'pass' | 'fail';
  readonly chosen: Chosen;
  readonly offered: Offered;
  readonly capabilitiesAtMs: number;
  readonly challengeExpiresAtMs: number;
  readonly evidenceAtMs: number | undefined;
  /** SHA-256 of the evidence as it is judged, lower-case hex: by it a repeated request is known. */
  readonly evidenceDigest: string | undefined;
  readonly collected: Collected | undefined;
  readonly completedAtMs: number | undefined;
  readonly failureReason: FailureReason | undefined;
  readonly failures: readonly FailureEvent[];
};

/**
 * Why an attestation did not pass. [compat] The first two are the existing verifier's: evidence that does not hold together,
 * and evidence that does but of a machine that is not as it should be. `not_judged`: neither is known, see its failures.
 */
export type FailureReason = 'broken_evidence_chain' | 'policy_violation' | 'not_judged';

/** What came of judging one. */
export type Conclusion = {
  readonly evaluation: 'pass' | 'fail';
  readonly completedAtMs: number;
  readonly failureReason: FailureReason | undefined;
  readonly failures: readonly FailureEvent[];
  /** TPM's count of resets in the quote; absent where it was not verified. */
  readonly resetCount: number | undefined;
};
