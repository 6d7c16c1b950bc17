import type { DmState } from '@keylime/appraisal/device-mapper';
import type { Progress } from '@keylime/appraisal/progress';
import type { LearnedKeyrings } from '@keylime/appraisal/signing-keys';
import { parseAgentId } from '@keylime/core/agent-id';
import { isHashAlgorithm } from '@keylime/core/digest';
import type { Insertable, Selectable, Updateable } from 'kysely';
import type { Agent, AgentRecord, Enrolment } from './agent.ts';
import { OPERATIONAL_STATES, parseOperationalState } from './operational-state.ts';
import type { AgentsTable } from './tables.ts';

/** A row that this program did not write, or wrote wrongly. */
export class CorruptRowError extends Error {
  readonly code = 'corrupt_row';
  constructor(agentId: string, column: string) {
    super(`The database row of agent ${agentId} is damaged in column ${column}: delete and enrol the agent again.`);
    this.name = 'CorruptRowError';
  }
}

/** An enrolment as JSON; `mtlsCert` null stands for plain HTTP. */
export type StoredEnrolment = Omit<
  Enrolment,
  'id' | 'mode' | 'runtimePolicyName' | 'mbPolicyName' | 'mtlsCert' | 'sealedKeyShare' | 'sealedRevocationKey'
> & {
  readonly mtlsCert: string | null;
  /** PEM, in rows of versions that kept it in the clear: `sealSecrets` takes it away. */
  readonly revocationKey?: string;
};

/** Progress as JSON, with short names: it is written with every attestation. */
export type StoredProgress = {
  readonly next: number;
  readonly pcr?: string;
  readonly bank?: string;
  readonly clock?: readonly [clock: string, resetCount: number, restartCount: number, safe: 0 | 1];
  readonly key?: string;
  readonly lag?: readonly [matched: number, length: number];
  readonly boot?: number;
  readonly policy?: string;
  readonly keys?: LearnedKeyrings;
  readonly dm?: DmState;
  readonly mb?: string;
};

/** The row of a new agent. */
export function agentRow(agent: Agent): Insertable<AgentsTable> {
  const { ip, port, verifierIp, verifierPort, tpmPolicy, metadata, accepted, akTpm } = agent;
  const { imaSignVerificationKeys, imaExtendMode } = agent;
  const mtlsCert = agent.mtlsCert ?? null;
  const enrolment: StoredEnrolment = {
    ip,
    port,
    verifierIp,
    verifierPort,
    tpmPolicy,
    metadata,
    accepted,
    akTpm,
    mtlsCert,
    ...(imaSignVerificationKeys !== undefined && { imaSignVerificationKeys }),
    ...(imaExtendMode && { imaExtendMode }),
  };
  return {
    agent_id: agent.id,
    verifier_id: agent.verifierId,
    mode: agent.mode,
    revision: agent.revision,
    enrolment,
    runtime_policy_name: agent.runtimePolicyName,
    sealed_key_share: agent.sealedKeyShare ?? null,
    sealed_revocation_key: agent.sealedRevocationKey ?? null,
    mb_policy_name: agent.mbPolicyName ?? null,
    ...recordColumns(agent),
  };
}

/** The columns that an attestation changes. */
export type RecordColumns = ReturnType<typeof recordColumns>;

export function recordColumns(record: AgentRecord) {
  return {
    operational_state: OPERATIONAL_STATES[record.state],
    supported_version: record.supportedVersion,
    hash_alg: record.hashAlg,
    enc_alg: record.encAlg,
    sign_alg: record.signAlg,
    attestation_count: record.attestationCount,
    last_received_quote: record.lastReceivedQuote,
    last_successful_attestation: record.lastSuccessfulAttestation,
    severity_level: record.severityLevel ?? null,
    last_event_id: record.lastEventId ?? null,
    last_failures: record.lastFailures,
    unreachable_rounds: record.unreachableRounds,
    inconclusive_rounds: record.inconclusiveRounds,
    progress: encodeProgress(record.progress),
    key_share_recipient: record.keyShareRecipient ?? null,
    key_share_retries: record.keyShareRetries,
    attest_by_ms: record.attestByMs ?? null,
    silent: record.silent,
  } satisfies Updateable<AgentsTable>;
}

/** The agent in a row. @throws CorruptRowError */
export function storedAgent(row: Selectable<AgentsTable>): Agent {
  const id = parseAgentId(row.agent_id);
  const state = parseOperationalState(row.operational_state);
  if (id === undefined) throw new CorruptRowError(row.agent_id, 'agent_id');
  if (state === undefined) throw new CorruptRowError(row.agent_id, 'operational_state');
  const { revocationKey: _, ...enrolment } = row.enrolment;
  return {
    id,
    mode: row.mode,
    ...enrolment,
    mtlsCert: enrolment.mtlsCert ?? undefined,
    runtimePolicyName: row.runtime_policy_name,
    sealedKeyShare: row.sealed_key_share ?? undefined,
    sealedRevocationKey: row.sealed_revocation_key ?? undefined,
    ...(row.mb_policy_name !== null && { mbPolicyName: row.mb_policy_name }),
    verifierId: row.verifier_id,
    revision: row.revision,
    state,
    supportedVersion: row.supported_version,
    hashAlg: row.hash_alg,
    encAlg: row.enc_alg,
    signAlg: row.sign_alg,
    attestationCount: row.attestation_count,
    lastReceivedQuote: row.last_received_quote,
    lastSuccessfulAttestation: row.last_successful_attestation,
    severityLevel: row.severity_level ?? undefined,
    lastEventId: row.last_event_id ?? undefined,
    lastFailures: row.last_failures,
    unreachableRounds: row.unreachable_rounds,
    inconclusiveRounds: row.inconclusive_rounds,
    progress: decodeProgress(row.progress),
    keyShareRecipient: row.key_share_recipient ?? undefined,
    keyShareRetries: row.key_share_retries,
    attestByMs: row.attest_by_ms ?? undefined,
    silent: row.silent,
  };
}

function encodeProgress({ nextEntry, runningPcr, bank, clock, ...rest }: Progress): StoredProgress {
  return {
    next: nextEntry,
    ...(runningPcr && { pcr: Buffer.from(runningPcr).toString('hex') }),
    ...(bank && { bank }),
    ...(clock && { clock: [String(clock.clock), clock.resetCount, clock.restartCount, clock.safe ? 1 : 0] }),
    ...(rest.transportKeyPem !== undefined && { key: rest.transportKeyPem }),
    ...(rest.quoteProgress && { lag: [rest.quoteProgress.matched, rest.quoteProgress.length] }),
    ...(rest.bootTime !== undefined && { boot: rest.bootTime }),
    ...(rest.policyChecksum !== undefined && { policy: rest.policyChecksum }),
    ...(rest.learnedKeyrings && { keys: rest.learnedKeyrings }),
    ...(rest.devices && { dm: rest.devices }),
    ...(rest.boot !== undefined && { mb: rest.boot }),
  };
}

function decodeProgress(stored: StoredProgress): Progress {
  const { next, pcr, bank, clock, key, lag, boot, policy, keys, dm, mb } = stored;
  return {
    nextEntry: next,
    ...(pcr !== undefined && { runningPcr: Buffer.from(pcr, 'hex') }),
    ...(bank !== undefined && isHashAlgorithm(bank) && { bank }),
    ...(clock && {
      clock: { clock: BigInt(clock[0]), resetCount: clock[1], restartCount: clock[2], safe: clock[3] === 1 },
    }),
    ...(key !== undefined && { transportKeyPem: key }),
    ...(lag && { quoteProgress: { matched: lag[0], length: lag[1] } }),
    ...(boot !== undefined && { bootTime: boot }),
    ...(policy !== undefined && { policyChecksum: policy }),
    ...(keys && { learnedKeyrings: keys }),
    ...(dm && { devices: dm }),
    ...(mb !== undefined && { boot: mb }),
  };
}
