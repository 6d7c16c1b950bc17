import { mkdir, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import { isJsonObject, type Json, parseJson } from '@keylime/core/json';
import { findFile, PRIVATE_FILE_MODE, replaceFile } from '@keylime/pki/safe-files';
import type { Log } from '@keylime/service/log';
import { exclusive } from './exclusive.ts';
import { openRetries } from './revocation-retries.ts';

/** How messages come. Only `https` is mutually authenticated; whoever may publish there sends those of `subscription`. */
export type Way = 'https' | 'subscription';

/** A message as it arrived; nothing in it is verified. */
export type ReceivedRevocation = { readonly msg: string; readonly signature: string; readonly way: Way };

/**
 * `later` keeps the message at the head of the queue, in front of all. `retryFor` lets the others pass, except those about
 * the same machine, and tries this one again after a growing time.
 */
export type Handled = 'done' | 'later' | { readonly retryFor: string };

export type Handling = {
  /** How long this process has had the message. */
  readonly waitedMs: number;
  /** Whether another about this machine is still to be retried: then this one must not be acted upon yet. */
  readonly mustWaitFor: (machine: string) => boolean;
};

export type RevocationQueue = {
  /** Takes a message to be handled; `false` if too many wait. It is on disk before this resolves, if the disk takes it. */
  readonly offer: (message: ReceivedRevocation) => Promise<boolean>;
  /** Tries again now what was to be handled later. */
  readonly wake: () => void;
  /** Resolves when nothing is being handled. What waits is taken up by the next process. */
  readonly close: () => Promise<void>;
};

/** [MUST] Each way has its own places: strangers of one do not crowd out the messages of the other. */
export const MAX_QUEUED = 32;
/** Messages to be retried have been verified. With more of them none is taken. */
export const MAX_RETRIED = 256;
const HEAD_RETRY_MS = 10_000;
const BACKOFF = { initialDelayMs: 10_000, maxDelayMs: 10 * 60_000 };

/**
 * Handles messages one at a time, in the order in which they came. They are kept in `folder`, which is for nothing else,
 * until they are handled, so that one which was answered with 200 outlives the process (at least once).
 * @param options.now milliseconds of a clock that is never set, unlike that on the wall.
 */
export async function openRevocationQueue(options: {
  readonly folder: string;
  readonly handle: (message: ReceivedRevocation, handling: Handling) => Promise<Handled>;
  readonly log: Log;
  readonly now?: () => number;
}): Promise<RevocationQueue> {
  const { folder, handle, log, now = () => performance.now() } = options;
  const waiting = (await readWaiting(folder, log)).map((one): Waiting => ({ ...one, takenAtMs: now() }));
  const retries = openRetries<Waiting>(BACKOFF, now);
  let sequence = Number(waiting.at(-1)?.name?.slice(0, NAME_DIGITS) ?? 0);
  const taken = { https: 0, subscription: 0 };
  for (const { message } of waiting) taken[message.way]++;
  const inOrder = exclusive();
  let isClosed = false;
  let isWanted = false;
  let isHurried = false;
  let running: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;

  async function drain(): Promise<void> {
    while (isWanted && !isClosed) {
      isWanted = false;
      // Not when it is asked for: what is being tried right then counts, too.
      if (isHurried) retries.hurry();
      isHurried = false;
      let isHeadBlocked = false;
      // In turns: neither what is new nor what is retried keeps the other waiting.
      while (!isClosed) {
        const head: Waiting | undefined = isHeadBlocked ? undefined : waiting[0];
        const due = retries.due();
        if (head === undefined && due === undefined) break;
        if (head !== undefined) isHeadBlocked = !(await takeHead(head));
        if (due !== undefined && !isClosed) await retry(due.machine, due.item);
      }
      const nextInMs = Math.min(isHeadBlocked ? HEAD_RETRY_MS : Infinity, retries.nextInMs() ?? Infinity);
      clearTimeout(timer);
      if (nextInMs !== Infinity && !isClosed) timer = setTimeout(proceed, nextInMs);
    }
  }

  /** @returns whether it is out of the way of the next. */
  async function takeHead(head: Waiting): Promise<boolean> {
    const handled = await attempt(head, retries.hasMachine);
    if (handled === 'later') return false;
    waiting.shift();
    taken[head.message.way]--;
    if (handled === 'done') await forget(head);
    else retries.add(handled.retryFor, head);
    return true;
  }

  async function retry(machine: string, item: Waiting): Promise<void> {
    if ((await attempt(item, () => false)) !== 'done') return retries.failed(machine);
    retries.succeeded(machine);
    await forget(item);
  }

  async function attempt({ message, takenAtMs }: Waiting, mustWaitFor: Handling['mustWaitFor']): Promise<Handled> {
    try {
      return await handle(message, { waitedMs: now() - takenAtMs, mustWaitFor });
    } catch (cause) {
      log.error('A revocation could not be handled', { reason: cause });
      return 'done';
    }
  }

  async function forget({ name }: Waiting): Promise<void> {
    if (name !== undefined) await rm(path.join(folder, name), { force: true });
  }

  function proceed(): void {
    clearTimeout(timer);
    isWanted = true;
    if (isClosed || running !== undefined) return;
    running = drain().finally(() => {
      running = undefined;
      if (isWanted) proceed();
    });
  }

  proceed();
  return {
    async offer(message) {
      if (isClosed || taken[message.way] >= MAX_QUEUED || retries.size() >= MAX_RETRIED) return false;
      taken[message.way]++;
      await inOrder(async () => {
        sequence++;
        const name = `${String(sequence).padStart(NAME_DIGITS, '0')}.json`;
        const isKept = await keep(folder, name, message, log);
        waiting.push({ message, name: isKept ? name : undefined, takenAtMs: now() });
      });
      proceed();
      return true;
    },
    wake() {
      isHurried = true;
      proceed();
    },
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await running;
    },
  };
}

type Kept = { readonly message: ReceivedRevocation; readonly name: string | undefined };
type Waiting = Kept & { readonly takenAtMs: number };

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

async function readWaiting(folder: string, log: Log): Promise<Kept[]> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const waiting: Kept[] = [];
  for (const name of (await readdir(folder)).sort()) {
    if (!/^\d{12}\.json$/.test(name)) {
      // Half written, or for an action, by a process that was killed.
      await rm(path.join(folder, name), { force: true, recursive: true });
      continue;
    }
    const json = parseJson((await findFile(path.join(folder, name)))?.toString('utf8') ?? '');
    const message = messageIn(json);
    if (message !== undefined) {
      waiting.push({ message, name });
    } else {
      log.error('A kept revocation is damaged and is left out', { path: path.join(folder, name) });
      await rm(path.join(folder, name), { force: true });
    }
  }
  return waiting;
}

function messageIn(json: Json | undefined): ReceivedRevocation | undefined {
  if (!isJsonObject(json) || typeof json.msg !== 'string' || typeof json.signature !== 'string') return undefined;
  return { msg: json.msg, signature: json.signature, way: json.way === 'https' ? 'https' : 'subscription' };
}
