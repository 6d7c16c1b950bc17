import { type AgentId, parseAgentId } from '@keylime/core/agent-id';
import type { HttpClient } from '@keylime/service/http-client';
import type { Agent } from './agent.ts';

/** The answer of an agent. */
export type AgentAnswer = { readonly status: number; readonly body: Buffer };

/** A way to one agent: kept alive, pinned to the certificate it registered with. Closes itself when idle. */
export type AgentConnection = {
  /** Rejects if nobody answers, the peer is not the agent, time runs out or the answer is too large. */
  readonly get: (path: string) => Promise<AgentAnswer>;
  /** As `get`. */
  readonly post: (path: string, json: unknown, signal?: AbortSignal) => Promise<AgentAnswer>;
  readonly close: () => void;
};

export function agentConnection(client: HttpClient): AgentConnection {
  const answer = async (request: Parameters<HttpClient['request']>[0]) => {
    const { code, body } = await client.request(request);
    return { status: code, body };
  };
  return {
    get: (path) => answer({ method: 'GET', path }),
    post: (path, json, signal) => answer({ method: 'POST', path, json, ...(signal && { signal }) }),
    close: () => void client.close(),
  };
}

/** A peer that has not taken a notification by then is told later. */
const NOTIFICATION_MS = 5_000;

/** Posts to one of many agents, each time over a connection of its own; `undefined` if none that listens is enrolled. */
export const postToAgentOf =
  (
    agents: { readonly find: (id: AgentId) => Promise<Agent | undefined> },
    connect: (agent: Agent) => AgentConnection,
  ) =>
  async (agentId: string, path: (apiVersion: string) => string, json: unknown): Promise<AgentAnswer | undefined> => {
    const id = parseAgentId(agentId);
    const agent = id && (await agents.find(id));
    if (agent === undefined || agent.mode === 'push') return undefined;
    const connection = connect(agent);
    try {
      return await connection.post(path(agent.supportedVersion), json, AbortSignal.timeout(NOTIFICATION_MS));
    } finally {
      connection.close();
    }
  };
