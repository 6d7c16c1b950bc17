import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '@keylime/service/log';
import type { Delivered } from './push-attestation.ts';
import { PushError } from './push-error.ts';
import { type Backoff, RetryLater, retryDelayMs, withJitter } from './retry.ts';

/** A verifier may want the next attestation at once; but no agent asks without a pause. */
const SHORTEST_PAUSE_MS = 500;
const LONGEST_PAUSE_S = 86_400;
/** So long after it registered, an agent that is admitted nowhere registers again: the registrar may have lost it. */
const REGISTER_AGAIN_MS = 60 * 60_000;

/** The verifier is there and says no: its operator may change that any moment, so the pause does not grow for long. */
const REFUSALS: readonly PushError['code'][] = [
  'not_admitted',
  'attestation_refused',
  'capabilities_refused',
  'evidence_refused',
  'evidence_unavailable',
];

export type PushSteps = {
  /** @throws RetryLater when the registrar cannot be reached; what else it throws ends the agent. */
  readonly register: () => Promise<void>;
  /** @throws PushError when it came to nothing; what else it throws ends the agent. */
  readonly attest: () => Promise<Delivered>;
};

/**
 * Registers, then attests again and again, when the verifier wants it; gives up nothing that may be well in a while.
 * Between attempts that came to nothing there is a pause that doubles and is never quite the same, so that a verifier which
 * comes back is not met by all its agents at once.
 * @param options.intervalSeconds between attestations where the verifier names no time.
 * @returns never. @throws what ends the agent; an `AbortError` when `signal` does.
 */
export async function push(options: {
  readonly steps: PushSteps;
  readonly intervalSeconds: number;
  readonly backoff: Pick<Backoff, 'initialDelayMs' | 'maxDelayMs'>;
  readonly log: Log;
  readonly signal: AbortSignal;
  readonly pause?: (delayMs: number) => Promise<unknown>;
  readonly now?: () => number;
}): Promise<never> {
  const { steps, intervalSeconds, backoff, log, signal, now = () => performance.now() } = options;
  const { pause = (delayMs) => sleep(delayMs, undefined, { signal }) } = options;
  let registeredAtMs: number | undefined;
  let failures = 0;

  const attempt = async (): Promise<number> => {
    if (registeredAtMs === undefined) {
      await steps.register();
      registeredAtMs = now();
    }
    const { index, evidence, nextInSeconds } = await steps.attest();
    failures = 0;
    const seconds = Math.min(nextInSeconds ?? intervalSeconds, LONGEST_PAUSE_S);
    if (evidence > 0) log.info('Evidence was delivered', { attestation: index, nextInSeconds: seconds });
    else log.warn('The verifier wants no evidence: it has no policy for this agent', { attestation: index });
    return Math.max(SHORTEST_PAUSE_MS, seconds * 1000);
  };

  const delayAfter = (failure: PushError | RetryLater): number => {
    const isRefusal = failure instanceof PushError && REFUSALS.includes(failure.code);
    const maxDelayMs = isRefusal ? Math.min(backoff.maxDelayMs, intervalSeconds * 1000) : backoff.maxDelayMs;
    const delayMs = retryDelayMs({ ...backoff, maxDelayMs }, failures, failure.afterMs);
    return Math.max(SHORTEST_PAUSE_MS, withJitter(delayMs, failure.afterMs));
  };

  for (;;) {
    signal.throwIfAborted();
    let delayMs: number;
    try {
      delayMs = await attempt();
    } catch (failure) {
      signal.throwIfAborted();
      if (!(failure instanceof PushError || failure instanceof RetryLater)) throw failure;
      delayMs = delayAfter(failure);
      failures++;
      const what = failure instanceof PushError ? 'No attestation' : 'Registration failed';
      log.warn(`${what}: it is tried again`, { failures, delayMs, reason: failure });
      if (failure.code === 'not_admitted' && now() - (registeredAtMs ?? now()) > REGISTER_AGAIN_MS) {
        registeredAtMs = undefined;
      }
    }
    await pause(delayMs);
  }
}
