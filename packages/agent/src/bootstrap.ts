import type { KeyObject } from 'node:crypto';
import { good, type Parsed } from '@keylime/core/parsed';
import type { Log } from '@keylime/service/log';
import { exclusive } from './exclusive.ts';
import { readUkey, readVkey } from './key-requests.ts';
import { installPayload, type PayloadSettings } from './payload.ts';
import { type Combination, payloadKeys } from './payload-keys.ts';
import { forgetArrivals, noteArrival } from './payload-progress.ts';
import { runDueScript } from './payload-script.ts';

/** Secure bootstrapping: takes the halves of payload keys, and delivers the payloads (spec 02 section 5). */
export type Bootstrap = {
  /** Body of keys/ukey; the problem is what the tenant is told. Delivery goes on after this returns. */
  readonly receiveU: (body: unknown) => Parsed<undefined, string>;
  /** Body of keys/vkey. */
  readonly receiveV: (body: unknown) => Parsed<undefined, string>;
  /** Answer to a challenge of keys/verify; `undefined` before the payload of a K is in place. */
  readonly answer: (challenge: string) => string | undefined;
  /** Stops a script that runs, and forgets all keys. */
  readonly close: () => Promise<void>;
};

/**
 * Also does what a process that was ended in the middle left undone: runs the script of its payload if that did not see its
 * end, and tells of a payload that it did not put in place.
 * @throws a system error if the secure folder cannot be read.
 */
export async function openBootstrap(options: {
  readonly agentId: string;
  readonly payloadKey: KeyObject;
  readonly secureFolder: string;
  readonly settings: PayloadSettings;
  /** A payload is in place, or its script has run. */
  readonly installed: () => Promise<void>;
  readonly log: Log;
}): Promise<Bootstrap> {
  const { agentId, payloadKey, secureFolder, settings, installed, log } = options;
  const keys = payloadKeys(agentId);
  const oneAtATime = exclusive();
  const stopping = new AbortController();

  function proceed(combination: Combination): void {
    switch (combination.kind) {
      case 'waiting':
        log.debug('A half of a payload key arrived and waits for the other');
        break;
      case 'repeated':
        log.info('The same payload arrived once more: it is in place already, or about to be');
        break;
      case 'replayed':
        log.error('A payload key that another has replaced arrived again: it is refused');
        break;
      case 'combined':
        log.info('Both halves of the payload key arrived, and it is for this agent');
        deliver(combination);
    }
  }

  function deliver({ k, payload, settle }: Extract<Combination, { readonly kind: 'combined' }>): void {
    const forgetArrival = noted();
    oneAtATime(async () => {
      // The mark stays, for the next process to tell.
      if (stopping.signal.aborted) return;
      const isInstalled = await installPayload({ k, payload, secureFolder, settings, log });
      settle(isInstalled);
      await forgetArrival();
      if (!isInstalled) return;
      await installed();
      await runScript();
    })
      .catch((cause) => log.error('A payload could not be delivered', { reason: cause }))
      .finally(() => {
        k.fill(0);
        // Unless that was told before.
        settle(false);
      });
  }

  function noted(): () => Promise<void> {
    try {
      return noteArrival(secureFolder);
    } catch (cause) {
      log.warn('It cannot be noted that a payload arrived', { path: secureFolder, reason: cause });
      return async () => {};
    }
  }

  async function runScript(): Promise<void> {
    if (await runDueScript({ secureFolder, settings, log, signal: stopping.signal })) await installed();
  }

  if ((await forgetArrivals(secureFolder)) > 0) {
    log.error('A payload arrived and the agent ended before it was in place: send it again (keylime_tenant -c update)');
  }
  oneAtATime(async () => {
    if (!stopping.signal.aborted) await runScript();
  }).catch((cause) => log.error('The script of the payload cannot be run', { path: secureFolder, reason: cause }));

  return {
    receiveU(body) {
      const u = readUkey(body, payloadKey);
      if (!u.ok) return u;
      proceed(keys.addU(u.value));
      return good(undefined);
    },
    receiveV(body) {
      const v = readVkey(body, payloadKey);
      if (!v.ok) return v;
      proceed(keys.addV(v.value));
      return good(undefined);
    },
    answer: keys.answer,
    async close() {
      stopping.abort();
      await oneAtATime(async () => keys.close());
    },
  };
}
