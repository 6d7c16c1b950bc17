import type { AgentId } from '@keylime/core/agent-id';
import type { Connection } from './connection.ts';
import type { EkSettings } from './ek-check.ts';
import type { AcceptedAlgorithms } from './identity-quote.ts';
import type { Arguments } from './options.ts';
import type { Output } from './output.ts';
import type { PayloadSettings } from './payload-plan.ts';
import type { PolicySettings } from './policy-options.ts';
import type { RetrySettings } from './retry.ts';
import type { ServerApi } from './server-api.ts';

/** How to reach an agent: over TLS with exactly the certificate that it registered, or in clear if it has none. */
export type AgentAddress = {
  readonly host: string;
  readonly port: string;
  /** PEM; `undefined` for an agent that registered without TLS. */
  readonly certificate: string | undefined;
};

/** All that a command needs, made once from command line and configuration. */
export type Tenant = {
  readonly given: Arguments;
  readonly output: Output;
  /** The agent that the command is about. Asking for it warns if nobody named one. */
  readonly agentId: () => AgentId;
  readonly verifier: () => ServerApi;
  readonly registrar: () => ServerApi;
  readonly connectAgent: (address: AgentAddress) => Connection;
  readonly ek: EkSettings;
  readonly accepted: AcceptedAlgorithms;
  readonly enableAgentMtls: boolean;
  readonly payloads: PayloadSettings;
  readonly retries: RetrySettings;
} & PolicySettings;
