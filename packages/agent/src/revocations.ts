import path from 'node:path';
import { isRevocationSigned } from '@keylime/payload/revocation-signature';
import type { Log } from '@keylime/service/log';
import type { BuiltInAction } from './built-in-actions.ts';
import { type ActionSettings, runActions } from './revocation-actions.ts';
import { readRevocationKeys } from './revocation-certificate.ts';
import { parseRevocationNotice, type ReceivedMessage } from './revocation-notice.ts';
import { type Handled, openRevocationQueue, type ReceivedRevocation } from './revocation-queue.ts';
import { openSeenNotices } from './seen-notices.ts';

export type Revocations = {
  /** Takes a message; `false` if too many wait. */
  readonly offer: (message: ReceivedMessage) => Promise<boolean>;
  /** A payload is in place: its certificate counts from now on. */
  readonly payloadChanged: () => Promise<void>;
  readonly close: () => Promise<void>;
};

/** Without a certificate a message waits this long for the payload that brings one, as after a reboot. */
export const WAIT_FOR_CERTIFICATE_MS = 10 * 60_000;

/**
 * Acts upon revocations: queue, signature, memory of what was seen, built-in actions, then the configured ones
 * (spec 06 section 4.5). The certificate of an earlier process is used if it is still there.
 */
export async function openRevocations(options: {
  /** Files with certificates that messages may be signed with; any of them does. */
  readonly certificatePaths: readonly string[];
  readonly actions: Omit<ActionSettings, 'argumentFolder'>;
  readonly builtIn: readonly BuiltInAction[];
  readonly log: Log;
  readonly now?: () => number;
}): Promise<Revocations> {
  const { certificatePaths, actions, builtIn, log, now = Date.now } = options;
  const folder = path.join(actions.workFolder, 'revocations');
  const seen = await openSeenNotices(path.join(actions.workFolder, 'revocations_seen.json'), log);
  let keys = await readRevocationKeys(certificatePaths, log);
  const stopping = new AbortController();

  async function handle({ msg, signature, receivedAtMs }: ReceivedRevocation): Promise<Handled> {
    if (keys.length === 0) {
      if (now() - receivedAtMs < WAIT_FOR_CERTIFICATE_MS) return 'later';
      log.warn('A revocation is dropped: no payload brought a certificate to verify it with');
      return 'done';
    }
    // [MUST] Nothing in the message counts before this.
    if (!keys.some((key) => isRevocationSigned(key, msg, signature))) {
      log.error('A revocation is refused: its signature is not that of a certificate for revocations');
      return 'done';
    }
    const notice = parseRevocationNotice(msg);
    if (notice === undefined) {
      log.error('A revocation is refused: it is signed, and yet not the JSON of a revocation');
      return 'done';
    }
    const fields = { type: notice.type, agent: notice.agentId, id: notice.id };
    if (seen.has(notice)) {
      log.info('A revocation that was acted upon before is not repeated', fields);
      return 'done';
    }
    log.warn('A machine is reported', fields);
    for (const act of builtIn) await act(notice);
    try {
      // What the end of the agent cut off is done again by the next one.
      if ((await runActions(notice, { ...actions, argumentFolder: folder }, log, stopping.signal)) === 'interrupted')
        return 'later';
    } catch (cause) {
      if (now() - receivedAtMs < WAIT_FOR_CERTIFICATE_MS) {
        log.error('Revocation actions cannot be run now, and are tried again', { reason: cause });
        return 'later';
      }
      log.error('Revocation actions could not be run', { reason: cause });
    }
    await seen.add(notice);
    return 'done';
  }

  const queue = await openRevocationQueue({ folder, handle, log });
  return {
    offer: ({ msg, signature }) => queue.offer({ msg, signature, receivedAtMs: now() }),
    async payloadChanged() {
      keys = await readRevocationKeys(certificatePaths, log);
      queue.wake();
    },
    async close() {
      stopping.abort();
      await queue.close();
    },
  };
}
