import { isJsonObject, parseJson } from '@keylime/core/json';
import type { Delivery } from './outbox.ts';

/**
 * A notification as a CloudEvent 1.0. `data` is what every other channel carries: `{msg, signature}`, of which only `msg` is
 * signed. Everything else in the event is for routing.
 */
export type RevocationEvent = {
  readonly specversion: '1.0';
  readonly id: string;
  /** `/keylime/verifiers/` and the name of the verifier. */
  readonly source: string;
  /** `dev.keylime.revocation`, or `dev.keylime.comm_error` for a machine that cannot be reached. */
  readonly type: string;
  /** The machine that is reported. */
  readonly subject: string;
  /** RFC 3339, UTC. */
  readonly time: string;
  readonly datacontenttype: 'application/json';
  readonly data: { readonly msg: string; readonly signature: string };
};

export function cloudEvent(delivery: Delivery, verifierId: string): RevocationEvent {
  const data = JSON.parse(delivery.body) as RevocationEvent['data'];
  const msg = parseJson(data.msg);
  const type = isJsonObject(msg) && msg.type === 'comm_error' ? 'comm_error' : 'revocation';
  return {
    specversion: '1.0',
    id: delivery.notificationId,
    source: `/keylime/verifiers/${encodeURIComponent(verifierId)}`,
    type: `dev.keylime.${type}`,
    subject: delivery.agentId,
    time: new Date(delivery.createdAtMs).toISOString(),
    datacontenttype: 'application/json',
    data,
  };
}
