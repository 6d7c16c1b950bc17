import type { KeyObject } from 'node:crypto';
import { pythonJson } from '@keylime/api/python-json';
import { signRevocation } from '@keylime/payload/revocation-signature';
import type { Agent } from '../agent.ts';
import type { Notification } from '../transition.ts';

/**
 * The body of a notification: `msg` is JSON text in the form that existing receivers match as text, `signature` is base64
 * of RSASSA-PSS with SHA-256 and the longest salt over the UTF-8 bytes of `msg`, or empty without a key. `notificationId` and `event_time_utc` are ours: they tell a repeated delivery from a second event.
 * Source: 06 section 4.1 of the reference.
 */
export function revocationMessage(
  agent: Agent,
  notification: Notification,
  event: { readonly id: string; readonly at: Date },
  key: KeyObject | undefined,
): { readonly msg: string; readonly signature: string } {
  const msg = pythonJson({
    type: notification.type,
    ip: agent.mode === 'push' ? null : agent.ip,
    agent_id: agent.id,
    port: agent.mode === 'push' ? null : agent.port,
    tpm_policy: agent.tpmPolicy,
    meta_data: agent.metadata,
    event_time: asctime(event.at),
    event_id: notification.event.eventId,
    severity_label: notification.severityLabel,
    context: pythonJson(notification.event.context),
    event_time_utc: event.at.toISOString(),
    notification_id: event.id,
  });
  return { msg, signature: key === undefined ? '' : signRevocation(key, msg) };
}

const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** C `asctime` in local time: `Tue Aug  4 10:15:03 2026`. */
export function asctime(at: Date): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const day = String(at.getDate()).padStart(2, ' ');
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${DAYS[at.getDay()]} ${MONTHS[at.getMonth()]} ${day} ${time} ${at.getFullYear()}`;
}
