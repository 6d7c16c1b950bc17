import { shorten } from '@keylime/appraisal/event';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { HttpClientError } from '@keylime/service/http-client-error';
import type { AgentAnswer } from './agent-connection.ts';

/** A proxy's and a restarting agent's 502 to 504 are retried too; the existing verifier gives such an agent up. */
const RETRIED: readonly number[] = [408, 429, 500, 502, 503, 504, 599];
const LONGEST_REASON = 300;
const LONGEST_MESSAGE_BYTES = 64 * 1024;

/** Whether an answer of this status says no more than that the agent could not answer now. */
export const isRetried = ({ status }: AgentAnswer): boolean => RETRIED.includes(status);

/** The JSON of an answer that is not evidence: a longer one is not looked at, for reading it would hold up other agents. */
export const parseShort = (body: Buffer): Json | undefined =>
  body.length <= LONGEST_MESSAGE_BYTES ? parseJson(body.toString('utf8')) : undefined;

/** What the agent says of its answer, shortened; empty if it says nothing. */
export function statusText({ body }: AgentAnswer): string {
  const json = parseShort(body);
  return isJsonObject(json) && typeof json.status === 'string' ? shorten(json.status, LONGEST_REASON) : '';
}

/** Why there is no answer. @throws the error, if it is a want of sockets, files or memory: that is ours, not the agent's */
export function unreachableReason(error: unknown): string {
  if (isLocalFault(error)) throw error;
  return error instanceof Error ? error.message : String(error);
}

/** Whether there is no answer because of the agent's certificate: it showed another one, or the enrolled one has ended. */
export const isOtherCertificate = (error: unknown): boolean =>
  error instanceof HttpClientError &&
  (error.code === 'pinned_certificate_mismatch' || error.code === 'certificate_expired');

const LOCAL_CODES: readonly unknown[] = ['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL', 'client_closed'];

function isLocalFault(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  return ('code' in error && LOCAL_CODES.includes(error.code)) || isLocalFault(error.cause);
}
