import type { AcceptedAlgorithms } from '@keylime/appraisal/algorithms';
import type { FailureEvent } from '@keylime/appraisal/event';
import type { Progress } from '@keylime/appraisal/progress';
import type { AgentId } from '@keylime/core/agent-id';
import type { ImaExtendMode } from '@keylime/ima/replay';
import type { OperationalState } from './operational-state.ts';

/** Who begins an attestation: the verifier, which asks the agent, or the agent, which sends its evidence by itself. */
export type AttestationMode = 'pull' | 'push';

/**
 * What an operator enrolled: where the attester is, whose key signs, and what is expected of it. Of it only the certificate
 * changes, when the agent has renewed it.
 */
export type Enrolment = {
  readonly id: AgentId;
  readonly mode: AttestationMode;
  /** Empty, and port 0, for an agent that pushes: it has no ear. */
  readonly ip: string;
  readonly port: number;
  readonly verifierIp: string;
  readonly verifierPort: number;
  /** JSON text as it was sent; the status answer echoes it. */
  readonly tpmPolicy: string;
  readonly metadata: string;
  readonly runtimePolicyName: string;
  /** Absent: enrolled before there was measured boot. */
  readonly mbPolicyName?: string;
  readonly accepted: AcceptedAlgorithms;
  /** TPM2B_PUBLIC of the AK, base64. */
  readonly akTpm: string;
  /** PEM of the certificate that the agent must show, or `undefined` for plain HTTP. */
  readonly mtlsCert: string | undefined;
  /** Keyring as JSON text for signatures of files, instead of the policy's; absent: the policy's count. */
  readonly imaSignVerificationKeys?: string;
  /** How its kernel extends PCR 10; absent: as the verifier's settings say. */
  readonly imaExtendMode?: ImaExtendMode;
  /** The RSA key that signs notifications about this agent, as a `SecretVault` sealed it; absent: the verifier's own does. */
  readonly sealedRevocationKey: string | undefined;
  /** The verifier's half V of the payload key, as a `SecretVault` sealed it; absent without a payload. */
  readonly sealedKeyShare: string | undefined;
};

/** What attestation has made of the agent so far: all that a verifier remembers between two rounds. */
export type AgentRecord = {
  readonly state: OperationalState;
  readonly supportedVersion: string;
  /** As the last quote said; empty before the first. */
  readonly hashAlg: string;
  readonly encAlg: string;
  readonly signAlg: string;
  readonly attestationCount: number;
  /** Unix seconds, 0 for never. */
  readonly lastReceivedQuote: number;
  readonly lastSuccessfulAttestation: number;
  /** Index in the configured labels of the worst failure since enrolment or reactivation. */
  readonly severityLevel: number | undefined;
  readonly lastEventId: string | undefined;
  /** The events of the last failing round, bounded. */
  readonly lastFailures: readonly FailureEvent[];
  /** Rounds in a row that brought no evidence. */
  readonly unreachableRounds: number;
  /** Rounds in a row whose evidence could neither pass nor fail. */
  readonly inconclusiveRounds: number;
  readonly progress: Progress;
  /** The boot and transport key that the key share was delivered to, as `recipientOf` names them; absent before. */
  readonly keyShareRecipient: string | undefined;
  /** Deliveries of the key share in a row that nobody took. */
  readonly keyShareRetries: number;
  /** When the next evidence of an agent that pushes is overdue, Unix milliseconds; absent where nobody waits for it. */
  readonly attestByMs: number | undefined;
  /** Whether an agent that pushes let that time pass. */
  readonly silent: boolean;
};

/** One enrolled agent as it is stored. `revision` grows by one with every write; a write of another revision is refused. */
export type Agent = Enrolment & AgentRecord & { readonly verifierId: string; readonly revision: number };

/** The record of an agent that nobody attested yet, or that starts again from nothing. */
export const freshRecord = (supportedVersion: string): AgentRecord => ({
  state: 'start',
  supportedVersion,
  hashAlg: '',
  encAlg: '',
  signAlg: '',
  attestationCount: 0,
  lastReceivedQuote: 0,
  lastSuccessfulAttestation: 0,
  severityLevel: undefined,
  lastEventId: undefined,
  lastFailures: [],
  unreachableRounds: 0,
  inconclusiveRounds: 0,
  progress: { nextEntry: 0 },
  keyShareRecipient: undefined,
  keyShareRetries: 0,
  attestByMs: undefined,
  silent: false,
});
