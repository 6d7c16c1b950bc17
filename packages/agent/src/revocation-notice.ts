import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';

/** A message as it arrives on every way; nothing in it is verified. */
export type ReceivedMessage = { readonly msg: string; readonly signature: string };

/** A message is about one machine; what is longer, in characters, is none. */
export const MAX_MESSAGE_LENGTH = 256 * 1024;

/** The message in JSON that carries one, or `undefined`. */
export function receivedMessage(json: Json | undefined): ReceivedMessage | undefined {
  if (!isJsonObject(json) || typeof json.msg !== 'string' || typeof json.signature !== 'string') return undefined;
  const { msg, signature } = json;
  return msg.length + signature.length > MAX_MESSAGE_LENGTH ? undefined : { msg, signature };
}

/** What a verifier says about a machine: the JSON of `msg` (spec 06 section 4.1). Every field may be missing in it. */
export type RevocationNotice = {
  /** Tells a repetition: the id that our verifiers give, for others a hash of the text. */
  readonly id: string;
  /** `revocation`, or `comm_error` for a machine that cannot be reached. */
  readonly type: string;
  readonly agentId: string | undefined;
  /** Address of the machine; `undefined` if it is a name, or none. */
  readonly address: string | undefined;
  /** The certificate that came with the machine's payload: its serial number, decimal, and subject (RFC 4514). */
  readonly certificate: { readonly serial: string; readonly subject: string } | undefined;
  /**
   * When it happened, in milliseconds since 1970. `verifier`: by the clock on the wall of the verifier, whose time zone it
   * does not say, read as if it were UTC. `undefined` if it has no time.
   */
  readonly happened: { readonly atMs: number; readonly clock: 'utc' | 'verifier' } | undefined;
  /** All of it, for actions. */
  readonly json: { readonly [key: string]: Json };
};

/** The notice in `msg`, or `undefined` if that is not the JSON of one. Not verified. */
export function parseRevocationNotice(msg: string): RevocationNotice | undefined {
  const json = parseJson(msg);
  if (!isJsonObject(json) || typeof json.type !== 'string') return undefined;
  const { notification_id: id, agent_id: agentId, ip } = json;
  return {
    id: typeof id === 'string' && id !== '' && id.length <= 100 ? id : createHash('sha256').update(msg).digest('hex'),
    type: json.type,
    agentId: typeof agentId === 'string' ? agentId : undefined,
    // An address with a zone, such as fe80::1%eth0, means nothing on this machine.
    address: typeof ip === 'string' && isIP(ip) !== 0 && !ip.includes('%') ? ip : undefined,
    certificate: certificateOf(json.meta_data),
    happened: timeOf(json),
    json,
  };
}

/** Our verifiers say `event_time_utc` (RFC 3339); the existing one only `event_time`, asctime(3) of its local time. */
function timeOf({ event_time_utc: utc, event_time: local }: RevocationNotice['json']): RevocationNotice['happened'] {
  const utcMs = typeof utc === 'string' ? Date.parse(utc) : Number.NaN;
  if (!Number.isNaN(utcMs)) return { atMs: utcMs, clock: 'utc' };
  const isLocal = typeof local === 'string' && /^\w{3} \w{3} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$/.test(local);
  const localMs = isLocal ? Date.parse(`${local} UTC`) : Number.NaN;
  return Number.isNaN(localMs) ? undefined : { atMs: localMs, clock: 'verifier' };
}

/** `meta_data` is JSON in a string, and a serial number may be larger than what a JavaScript number keeps exactly. */
function certificateOf(metaData: Json | undefined): RevocationNotice['certificate'] {
  if (typeof metaData !== 'string') return undefined;
  const fields = parseJson(metaData);
  if (!isJsonObject(fields) || typeof fields.subject !== 'string' || typeof fields.cert_serial !== 'number')
    return undefined;
  const serial = Number.isSafeInteger(fields.cert_serial)
    ? String(fields.cert_serial)
    : /"cert_serial"\s*:\s*(\d{1,60})\s*[,}]/.exec(metaData)?.[1];
  return serial === undefined || !/^\d+$/.test(serial) ? undefined : { serial, subject: fields.subject };
}
