import type { Brand } from './brand.ts';

/** The name of one attester: 1 to 80 characters of `A-Z a-z 0-9 _ . -`. */
export type AgentId = Brand<string, 'AgentId'>;

/** `text` as an agent id, or `undefined` if it is none. The verifier, the registrar and the tenant share this rule. */
export const parseAgentId = (text: string): AgentId | undefined =>
  /^[A-Za-z0-9_.-]{1,80}$/.test(text) && text !== '.' && text !== '..' ? (text as AgentId) : undefined;
