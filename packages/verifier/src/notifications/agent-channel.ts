import { saysVersionNotSupported } from '@keylime/api/versions';
import { isRetried, statusText } from '../agent-answer.ts';
import type { AgentAnswer } from '../agent-connection.ts';
import { UndeliverableError } from './notifier.ts';
import type { Delivery } from './outbox.ts';

/** Posts JSON to one enrolled agent; `undefined` if it is not enrolled any more. */
export type PostToAgent = (
  agentId: string,
  path: (apiVersion: string) => string,
  json: unknown,
) => Promise<AgentAnswer | undefined>;

/**
 * Tells one agent of another machine: `notifications/revocation` (01 section 6.3 of the reference). 200 means that it waits
 * there; its signature is looked at later.
 * @throws UndeliverableError if the agent has no ear for it
 */
export async function deliverToAgent(post: PostToAgent, peerId: string, { body }: Delivery): Promise<void> {
  const answer = await post(peerId, (version) => `/v${version}/notifications/revocation`, JSON.parse(body));
  if (answer === undefined || answer.status === 200) return;
  const text = statusText(answer);
  const said = `agent ${peerId} answered ${answer.status} to a revocation: ${text || 'no reason given'}`;
  // Its next attestation finds the version that it speaks now.
  const mayPass = isRetried(answer) || (answer.status === 400 && saysVersionNotSupported(text));
  throw mayPass ? new Error(said) : new UndeliverableError(said);
}
