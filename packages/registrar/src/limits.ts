import type { Rate } from '@keylime/service/rate-limit';

/** What one registrar process lets anybody ask of it, and what it remembers of unproven claims. */
export type Limits = {
  /** Registrations and activations of one address. */
  readonly perAddress: Rate;
  /** Registrations of one agent id from one address: nobody can use up the allowance of another address. */
  readonly perAgentAndAddress: Rate;
  /** Wrong auth tags for one agent id from one address. */
  readonly wrongTags: Rate;
  /** How long a challenge can be answered. A slow TPM needs seconds. */
  readonly challengeLifetimeMs: number;
  /** Challenges of one agent that are open at the same time; the oldest goes first. */
  readonly pendingPerAgent: number;
  /** Of these, challenges asked for from one address. */
  readonly pendingPerAgentAndAddress: number;
  /** Open challenges of all agents. More than `perAddress` allows in `challengeLifetimeMs`, or one address could void all. */
  readonly pendingInAll: number;
  /** Bytes of a request body. */
  readonly bodyBytes: number;
};

export const DEFAULT_LIMITS: Limits = {
  perAddress: { burst: 3000, perMinute: 3000 },
  perAgentAndAddress: { burst: 20, perMinute: 20 },
  wrongTags: { burst: 10, perMinute: 10 },
  challengeLifetimeMs: 10 * 60_000,
  pendingPerAgent: 8,
  pendingPerAgentAndAddress: 2,
  pendingInAll: 50_000,
  bodyBytes: 256 * 1024,
};
