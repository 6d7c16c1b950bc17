import { type Static, Type } from 'typebox';

/**
 * Body of PUT /vX/agents/{id} (what agents use), PUT and POST /vX/agents/{id}/activate: 96 lower-case hex digits, the
 * HMAC-SHA384 keyed with the base64 text of the challenge over the agent id (spec 01 section 4.4).
 */
export const ActivationBody = Type.Object({ auth_tag: Type.String() });
export type ActivationBody = Static<typeof ActivationBody>;

/** Longer tags are not looked at. */
export const MAX_AUTH_TAG = 256;

/** `status` of a wrong tag: the received one only, never the expected one. */
export const authTagMismatch = (authTag: string, agentId: string): string =>
  `Auth tag '${authTag}' for agent '${agentId}' does not match expected value. The challenge is void and the agent will need to be restarted to reattempt registration`;

/** The tag in a body, or `undefined` if there is none that could be right. Nothing is checked but its form. */
export function parseAuthTag(body: unknown): string | undefined {
  if (typeof body !== 'object' || body === null) return undefined;
  const tag: unknown = 'auth_tag' in body ? body.auth_tag : undefined;
  return typeof tag === 'string' && tag.length <= MAX_AUTH_TAG ? tag : undefined;
}
