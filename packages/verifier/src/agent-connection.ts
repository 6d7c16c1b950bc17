/** The answer of an agent. */
export type AgentAnswer = { readonly status: number; readonly body: Buffer };

/** A way to one agent: kept alive, pinned to the certificate it registered with. Closes itself when idle. */
export type AgentConnection = {
  /** Rejects if nobody answers, the peer is not the agent, time runs out or the answer is too large. */
  readonly get: (path: string) => Promise<AgentAnswer>;
  /** As `get`. */
  readonly post: (path: string, json: unknown) => Promise<AgentAnswer>;
  readonly close: () => void;
};
