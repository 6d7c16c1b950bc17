import { type Static, Type } from 'typebox';

const Nullable = <T extends Type.TSchema>(schema: T) => Type.Union([schema, Type.Null()]);

/**
 * `results` of GET /vX/agents/{id}, for active agents only (spec 01 section 4.5). Keys are base64 TPM2B_PUBLIC, `ekcert` is
 * base64 of the bytes the agent sent, `mtls_cert` is PEM or `disabled`. `regcount` counts activations.
 */
export const AgentResults = Type.Object({
  agent_id: Type.String(),
  ek_tpm: Type.String(),
  ekcert: Nullable(Type.String()),
  /** Certificates that the agent sent behind `ekcert`, untrusted; only there if it sent some. Not in the existing API. */
  ekcert_chain: Type.Optional(Type.Array(Type.String())),
  aik_tpm: Type.String(),
  mtls_cert: Nullable(Type.String()),
  ip: Nullable(Type.String()),
  port: Nullable(Type.Integer()),
  regcount: Type.Integer(),
});
export type AgentResults = Static<typeof AgentResults>;

/** `results` of GET /vX/agents: also agents that have registered and not yet activated. */
export const AgentListResults = Type.Object({ uuids: Type.Array(Type.String()) });
export type AgentListResults = Static<typeof AgentListResults>;

/** Texts of `status` that peers and scripts know (spec 01 sections 4.4 and 4.5). */
export const agentNotFound = (agentId: string): string => `Agent with ID '${agentId}' not found`;
export const agentNotActivated = (agentId: string): string => `Agent with ID '${agentId}' has not been activated`;
