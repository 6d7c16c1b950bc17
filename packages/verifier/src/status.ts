import type { Agent } from './agent.ts';
import { OPERATIONAL_STATES } from './operational-state.ts';

export type AttestationStatus = 'PASS' | 'FAIL' | 'PENDING' | 'TIMEOUT';

/** PASS only after a round that passed; the existing verifier says PASS right after enrolment. */
export function attestationStatus(agent: Agent): AttestationStatus {
  switch (agent.state) {
    case 'failed':
    case 'invalidQuote':
    case 'tenantFailed':
      return 'FAIL';
    case 'start':
      return agent.silent ? 'TIMEOUT' : 'PENDING';
    case 'getQuote':
    case 'provideV':
      if (agent.silent) return 'TIMEOUT';
      return agent.attestationCount > 0 ? 'PASS' : 'PENDING';
  }
}

/**
 * The status answer for one agent (01 section 5.3 of the reference). Old names and old shapes; `v` is always null because a
 * key share has no business in a status. What old tools do not know stands at the end.
 */
export function agentStatus(
  agent: Agent,
  settings: {
    readonly quoteIntervalSeconds: number;
    readonly hasRuntimePolicy: boolean;
    readonly hasMbPolicy: boolean;
  },
) {
  return {
    operational_state: OPERATIONAL_STATES[agent.state],
    v: null,
    ip: agent.mode === 'push' ? null : agent.ip,
    port: agent.mode === 'push' ? null : agent.port,
    tpm_policy: agent.tpmPolicy,
    meta_data: agent.metadata,
    has_mb_refstate: settings.hasMbPolicy ? 1 : 0,
    has_runtime_policy: settings.hasRuntimePolicy ? 1 : 0,
    accept_tpm_hash_algs: agent.accepted.hash,
    accept_tpm_encryption_algs: agent.accepted.encryption,
    accept_tpm_signing_algs: agent.accepted.signing,
    hash_alg: agent.hashAlg,
    enc_alg: agent.encAlg,
    sign_alg: agent.signAlg,
    verifier_id: agent.verifierId,
    verifier_ip: agent.verifierIp,
    verifier_port: agent.verifierPort,
    severity_level: agent.severityLevel ?? null,
    last_event_id: agent.lastEventId ?? null,
    attestation_count: agent.attestationCount,
    last_received_quote: agent.lastReceivedQuote,
    last_successful_attestation: agent.lastSuccessfulAttestation,
    attestation_status: attestationStatus(agent),
    attestation_period: `${Math.trunc(settings.quoteIntervalSeconds)}s`,
    maximum_attestation_interval: `${Math.trunc(5 * settings.quoteIntervalSeconds)}s`,
    attestation_mode: agent.mode,
    unreachable_rounds: agent.unreachableRounds,
    inconclusive_rounds: agent.inconclusiveRounds,
    last_failures: agent.lastFailures.map(({ eventId, context }) => ({ event_id: eventId, context })),
  };
}
