import type { AgentId } from '@keylime/core/agent-id';
import type { CompleteRegistration } from './registration.ts';

/** An agent whose TPM has answered a challenge: what the registrar vouches for. */
export type ActiveAgent = {
  readonly agentId: AgentId;
  readonly registration: CompleteRegistration;
  /** Activations so far of registrations that carried keys. */
  readonly regcount: number;
  /** Milliseconds since 1970. */
  readonly activatedAt: number;
  /** SHA-256 of the tag that activated it last. */
  readonly tagDigest: Buffer;
};

/** Claims of an unproven sender, until their challenge is answered. */
export type PendingRegistration = {
  readonly key: string;
  readonly agentId: AgentId;
  /** Address that it came from (`addressKey`). */
  readonly source: string;
  readonly registration: CompleteRegistration;
  /** Whether the request carried keys, so that its activation counts. */
  readonly counts: boolean;
  readonly tagDigest: Buffer;
  /** Milliseconds since 1970. */
  readonly createdAt: number;
  readonly expiresAt: number;
};

export type StagingLimits = {
  readonly pendingPerAgent: number;
  readonly pendingPerAgentAndAddress: number;
  readonly pendingInAll: number;
};

/** `gone`: the pending registration was used or dropped meanwhile. `identity_taken`: another TPM has the id. */
export type Promotion = 'activated' | 'identity_taken' | 'gone';

/** All that a registrar knows. Every acknowledged call has reached the disk. Times are milliseconds since 1970. */
export type AgentStore = {
  readonly find: (agentId: AgentId) => Promise<ActiveAgent | undefined>;
  readonly pending: (agentId: AgentId, now: number) => Promise<readonly PendingRegistration[]>;
  /** Remembers `pending` and forgets expired ones and those over the limits, the oldest first. */
  readonly stage: (pending: PendingRegistration, limits: StagingLimits) => Promise<void>;
  /**
   * Makes `pending` the active record and drops all other pending registrations of the agent, in one transaction. Of
   * several callers one succeeds; a record of another TPM is never replaced.
   */
  readonly promote: (pending: PendingRegistration, now: number) => Promise<Promotion>;
  /** Drops what `source` has pending for the agent. */
  readonly dropPending: (agentId: AgentId, source: string) => Promise<void>;
  /** Ids of active and pending agents, in order. */
  readonly list: (now: number) => Promise<readonly string[]>;
  /** Removes the agent with all that is pending; tells whether there was anything. */
  readonly remove: (agentId: AgentId) => Promise<boolean>;
};
