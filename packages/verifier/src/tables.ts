import type { FailureEvent } from '@keylime/appraisal/event';
import type { Generated } from 'kysely';
import type { AttestationMode } from './agent.ts';
import type { Collected, Offered } from './push/attestation.ts';
import type { Chosen } from './push/negotiate.ts';
import type { StoredEnrolment, StoredProgress } from './stored-agent.ts';

/** The verifier's own tables. Times are Unix seconds, or milliseconds where the name says `_ms`. */
export type VerifierTables = {
  agents: AgentsTable;
  runtime_policies: RuntimePoliciesTable;
  mb_policies: MbPoliciesTable;
  outbox: OutboxTable;
  push_sessions: PushSessionsTable;
  attestations: AttestationsTable;
  attestation_evidence: AttestationEvidenceTable;
};

export type AgentsTable = {
  agent_id: string;
  verifier_id: string;
  mode: AttestationMode;
  /** Grows by one with every write; a write names the one it read. */
  revision: number;
  enrolment: StoredEnrolment;
  runtime_policy_name: string;
  /** See `SecretVault`; null without a payload. */
  sealed_key_share: string | null;
  sealed_revocation_key: string | null;
  /** Null for agents that were enrolled before there was measured boot. */
  mb_policy_name: string | null;
  operational_state: number;
  supported_version: string;
  hash_alg: string;
  enc_alg: string;
  sign_alg: string;
  attestation_count: number;
  last_received_quote: number;
  last_successful_attestation: number;
  severity_level: number | null;
  last_event_id: string | null;
  last_failures: readonly FailureEvent[];
  unreachable_rounds: number;
  inconclusive_rounds: number;
  progress: StoredProgress;
  key_share_recipient: string | null;
  key_share_retries: number;
  attest_by_ms: number | null;
  silent: boolean;
};

export type RuntimePoliciesTable = {
  name: string;
  /** As it was uploaded: a policy, or the DSSE envelope around one. */
  text: string;
  /** SHA-256 of `text`, lower-case hex. */
  checksum: string;
  generator: number;
  /** PEM of the key by which its signature was checked when it was stored; null where none was. */
  signature_key: string | null;
};

export type MbPoliciesTable = {
  name: string;
  /** The reference state as it was uploaded, JSON; null for none. */
  text: string | null;
  /** SHA-256 of `text` and `rules`, lower-case hex. */
  checksum: string;
  /** The measured-boot policy that it is for; null for the one that the verifier is set to. */
  rules: string | null;
};

export type OutboxTable = {
  sequence: Generated<number>;
  verifier_id: string;
  notification_id: string;
  agent_id: string;
  channel: string;
  /** The peer that is told; null for what is still to be spread over all, and on channels that have one receiver. */
  target: string | null;
  /** Last peer up to which it was spread. */
  spread_up_to: string | null;
  /** The JSON body to deliver. */
  body: string;
  created_at_ms: number;
  attempts: number;
  next_attempt_at_ms: number;
  last_error: string | null;
  /** Given up. What was delivered is deleted. */
  dead: boolean;
};

export type PushSessionsTable = {
  session_id: string;
  agent_id: string;
  /** Base64. */
  challenge: string;
  created_at_ms: number;
  challenge_expires_at_ms: number;
  /** SHA-256 of the token, lower-case hex; null until the agent has proved its identity. */
  token_hash: string | null;
  token_expires_at_ms: number | null;
  /** Name of the AK that proved it, hex. */
  ak_name: string | null;
};

export type AttestationsTable = {
  agent_id: string;
  /** 0, 1, 2 … for each agent. */
  number: number;
  /** The verifier that judges it: the one that the agent is enrolled with. */
  verifier_id: string;
  stage: 'awaiting_evidence' | 'evaluating_evidence' | 'verification_complete';
  evaluation: 'pending' | 'pass' | 'fail';
  chosen: Chosen;
  offered: Offered;
  capabilities_at_ms: number;
  challenge_expires_at_ms: number;
  evidence_at_ms: number | null;
  /** SHA-256 of the evidence as it is judged, lower-case hex. */
  evidence_digest: string | null;
  collected: Collected | null;
  completed_at_ms: number | null;
  failure_reason: string | null;
  failures: readonly FailureEvent[] | null;
  /** Of the quote that was judged: one boot of the machine. */
  reset_count: number | null;
};

/** What waits for its verdict; afterwards it is deleted. */
export type AttestationEvidenceTable = {
  agent_id: string;
  number: number;
  body: Buffer;
};
