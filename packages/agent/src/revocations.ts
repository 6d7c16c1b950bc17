import { stat } from 'node:fs/promises';
import path from 'node:path';
import { isRevocationSigned } from '@keylime/payload/revocation-signature';
import type { Log } from '@keylime/service/log';
import type { BuiltInAction, BuiltInEnd } from './built-in-actions.ts';
import { type ActionSettings, type ActionsEnd, runActions } from './revocation-actions.ts';
import { openRevocationKeys } from './revocation-certificate.ts';
import { parseRevocationNotice, type ReceivedMessage, type RevocationNotice } from './revocation-notice.ts';
import {
  type Handled,
  type Handling,
  openRevocationQueue,
  type ReceivedRevocation,
  type Way,
} from './revocation-queue.ts';
import { openSeenNotices } from './seen-notices.ts';

export type Revocations = {
  /** Takes a message; `false` if too many wait. */
  readonly offer: (message: ReceivedMessage, way: Way) => Promise<boolean>;
  /** A payload is in place: its certificate counts from now on. */
  readonly payloadChanged: () => Promise<void>;
  /** Whether there is a certificate that a message can be verified with. */
  readonly canVerify: () => boolean;
  readonly close: () => Promise<void>;
};

/** So long a message waits for a payload, after a reboot: for the certificate if none is known, and for the actions. */
export const WAIT_FOR_PAYLOAD_MS = 10 * 60_000;

/** A notice whose actions are not all done: the message it came in, and names of what succeeded. */
type Pending = { readonly message: ReceivedRevocation; readonly done: Set<string> };
/** Stands in `done` for all configured actions. */
const CONFIGURED = '';

/**
 * Acts upon revocations: queue, signature, memory of what was seen, built-in actions, then the configured ones
 * (spec 06 section 4.5). The certificates of an earlier process are used until a payload brings others.
 * [MUST] A notice counts as seen only when all that is to be done about it was done, or can never be.
 * @param options.now milliseconds of a clock that is never set.
 */
export async function openRevocations(options: {
  /** Files with certificates that messages may be signed with; any of them does. */
  readonly certificatePaths: readonly string[];
  readonly actions: Omit<ActionSettings, 'argumentFolder'>;
  readonly builtIn: readonly BuiltInAction[];
  /** Whether a payload may still come, so that its actions are waited for. */
  readonly takesPayloads?: boolean;
  readonly log: Log;
  readonly now?: () => number;
}): Promise<Revocations> {
  const { certificatePaths, actions, builtIn, log, takesPayloads = true, now = () => performance.now() } = options;
  const { workFolder, payloadFolder } = actions;
  const folder = path.join(workFolder, 'revocations');
  const seen = await openSeenNotices(path.join(workFolder, 'revocations_seen.json'), log);
  const keptPath = path.join(workFolder, 'revocation_certs.pem');
  const keys = await openRevocationKeys({ paths: certificatePaths, payloadFolder, keptPath, log });
  const pending = new Map<string, Pending>();
  const stopping = new AbortController();

  async function handle(message: ReceivedRevocation, { waitedMs, mustWaitFor }: Handling): Promise<Handled> {
    const { msg, signature } = message;
    const isSigned = () => keys.all().some((key) => isRevocationSigned(key, msg, signature));
    if (!isSigned()) await keys.rereadInstalled();
    if (keys.all().length === 0) {
      if (waitedMs < WAIT_FOR_PAYLOAD_MS) return 'later';
      log.warn('A revocation is dropped: no payload brought a certificate to verify it with');
      return 'done';
    }
    // [MUST] Nothing in the message counts before this.
    if (!isSigned()) {
      log.error('A revocation is refused: its signature is not that of a certificate for revocations');
      return 'done';
    }
    const notice = parseRevocationNotice(msg);
    if (notice === undefined) {
      log.error('A revocation is refused: it is signed, and yet not the JSON of a revocation');
      return 'done';
    }
    const fields = { type: notice.type, agent: notice.agentId, id: notice.id };
    const earlier = pending.get(notice.id);
    if (seen.has(notice) || (earlier !== undefined && earlier.message !== message)) {
      log.info('A revocation that was acted upon before is not repeated', fields);
      return 'done';
    }
    const machine = notice.agentId ?? notice.address ?? notice.id;
    const { done } = earlier ?? { done: new Set<string>() };
    if (earlier === undefined) {
      log.warn('A machine is reported', fields);
      pending.set(notice.id, { message, done });
    }
    if (mustWaitFor(machine)) return { retryFor: machine };
    const end = await actUpon(notice, done, waitedMs);
    if (end === 'later') return end;
    if (end === 'retry') return { retryFor: machine };
    await seen.add(notice);
    pending.delete(notice.id);
    return 'done';
  }

  /** Does what is not `done` yet. */
  async function actUpon(notice: RevocationNotice, done: Set<string>, waitedMs: number): Promise<BuiltInEnd | 'later'> {
    let isComplete = true;
    for (const { name, act } of builtIn) {
      if (done.has(name)) continue;
      try {
        if ((await act(notice)) === 'done') done.add(name);
        else isComplete = false;
      } catch (cause) {
        log.error(`Revocation action ${name} cannot be run now, and is tried again`, { reason: cause });
        isComplete = false;
      }
    }
    if (!done.has(CONFIGURED)) {
      const end = await runConfigured(notice, done, waitedMs);
      // What the end of the agent cut off is done again by the next one.
      if (end === 'interrupted') return 'later';
      if (end === 'retry') isComplete = false;
      else done.add(CONFIGURED);
    }
    return isComplete ? 'done' : 'retry';
  }

  async function runConfigured(notice: RevocationNotice, done: Set<string>, waitedMs: number): Promise<ActionsEnd> {
    try {
      const isPayloadExpected =
        takesPayloads && keys.areOfEarlierPayload() && waitedMs < WAIT_FOR_PAYLOAD_MS && !(await exists(payloadFolder));
      const argumentFolder = folder;
      return await runActions(notice, { ...actions, argumentFolder }, log, stopping.signal, {
        done,
        isPayloadExpected,
      });
    } catch (cause) {
      log.error('Revocation actions cannot be run now, and are tried again', { reason: cause });
      return 'retry';
    }
  }

  const queue = await openRevocationQueue({ folder, handle, log, now });
  return {
    offer: ({ msg, signature }, way) => queue.offer({ msg, signature, way }),
    canVerify: () => keys.all().length > 0,
    async payloadChanged() {
      await keys.payloadChanged();
      queue.wake();
    },
    async close() {
      stopping.abort();
      await queue.close();
    },
  };
}

const exists = async (folder: string): Promise<boolean> => (await stat(folder).catch(() => undefined)) !== undefined;
