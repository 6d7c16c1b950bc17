import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { isJsonObject, parseJson } from '@keylime/core/json';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import { exclusive } from './exclusive.ts';

/** A message as it arrived; nothing in it is verified. */
export type ReceivedRevocation = { readonly msg: string; readonly signature: string; readonly receivedAtMs: number };

/** `later` keeps the message at the head of the queue. */
export type Handled = 'done' | 'later';

export type RevocationQueue = {
  /** Takes a message to be handled; `false` if too many wait. It is on disk before this resolves, if the disk takes it. */
  readonly offer: (message: ReceivedRevocation) => Promise<boolean>;
  /** Tries again what was to be handled later. */
  readonly wake: () => void;
  /** Resolves when nothing is being handled. What waits is taken up by the next process. */
  readonly close: () => Promise<void>;
};

export const MAX_QUEUED = 32;
const RETRY_MS = 10_000;

/**
 * Handles messages one at a time, in the order in which they came. They are kept in `folder`, which is for nothing else, until they are handled, so
 * that one which was answered with 200 outlives the process (at least once).
 */
export async function openRevocationQueue(options: {
  readonly folder: string;
  readonly handle: (message: ReceivedRevocation) => Promise<Handled>;
  readonly log: Log;
  readonly retryMs?: number;
}): Promise<RevocationQueue> {
  const { folder, handle, log, retryMs = RETRY_MS } = options;
  const waiting = await readWaiting(folder, log);
  let sequence = Number(waiting.at(-1)?.name?.slice(0, NAME_DIGITS) ?? 0);
  let offered = waiting.length;
  const inOrder = exclusive();
  let isClosed = false;
  let isWanted = false;
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function drain(): Promise<void> {
    while (isWanted && !isClosed) {
      isWanted = false;
      for (let head = waiting[0]; head !== undefined && !isClosed; head = waiting[0]) {
        if ((await attempt(head.message)) === 'later') {
          if (!isClosed) timer = setTimeout(wake, retryMs);
          break;
        }
        waiting.shift();
        offered--;
        if (head.name !== undefined) await rm(path.join(folder, head.name), { force: true });
      }
    }
  }

  async function attempt(message: ReceivedRevocation): Promise<Handled> {
    try {
      return await handle(message);
    } catch (cause) {
      log.error('A revocation could not be handled', { reason: cause });
      return 'done';
    }
  }

  function wake(): void {
    clearTimeout(timer);
    isWanted = true;
    if (isClosed || running !== undefined) return;
    running = drain().finally(() => {
      running = undefined;
      if (isWanted) wake();
    });
  }

  wake();
  return {
    async offer(message) {
      if (isClosed || offered >= MAX_QUEUED) return false;
      offered++;
      await inOrder(async () => {
        sequence++;
        const name = `${String(sequence).padStart(NAME_DIGITS, '0')}.json`;
        const isKept = await keep(folder, name, message, log);
        waiting.push({ message, name: isKept ? name : undefined });
      });
      wake();
      return true;
    },
    wake,
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await running;
    },
  };
}

type Waiting = { readonly message: ReceivedRevocation; readonly name: string | undefined };

const NAME_DIGITS = 12;

async function keep(folder: string, name: string, message: ReceivedRevocation, log: Log): Promise<boolean> {
  try {
    await replaceFile(path.join(folder, name), JSON.stringify(message), PRIVATE_FILE_MODE);
    return true;
  } catch (cause) {
    // A full disk is no reason not to act.
    log.warn('A revocation cannot be kept on disk until it is handled', { path: folder, reason: cause });
    return false;
  }
}

async function readWaiting(folder: string, log: Log): Promise<Waiting[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const waiting: Waiting[] = [];
  for (const name of (await readdir(folder)).sort()) {
    if (!/^\d{12}\.json$/.test(name)) {
      // Half written, or for an action, by a process that was killed.
      await rm(path.join(folder, name), { force: true, recursive: true });
      continue;
    }
    const json = parseJson((await findFile(path.join(folder, name)))?.toString('utf8') ?? '');
    if (isMessage(json)) {
      waiting.push({ message: json, name });
    } else {
      log.error('A kept revocation is damaged and is left out', { path: path.join(folder, name) });
      await rm(path.join(folder, name), { force: true });
    }
  }
  return waiting;
}

const isMessage = (json: unknown): json is ReceivedRevocation =>
  isJsonObject(json) &&
  typeof json.msg === 'string' &&
  typeof json.signature === 'string' &&
  typeof json.receivedAtMs === 'number';
