import type { AgentId } from '@keylime/core/agent-id';
import type { Log } from '@keylime/service/log';
import type { Agent } from '../agent.ts';
import type { AgentStore } from '../agent-store.ts';
import type { Clock } from '../clock.ts';
import type { Steps } from '../steps.ts';
import type { AttestationStore } from './attestation-store.ts';
import type { SessionStore } from './session-store.ts';
import { type PushSettings, silenceTransition } from './verdict.ts';

export type PushWatchParts = {
  readonly verifierId: string;
  readonly agents: Pick<AgentStore, 'overdue' | 'waitUntil'>;
  readonly attestations: Pick<AttestationStore, 'unjudged' | 'forget'>;
  readonly sessions: Pick<SessionStore, 'forgetExpired'>;
  readonly steps: Pick<Steps, 'store'>;
  readonly settings: PushSettings;
  /** Evidence of this agent waits, wherever it arrived; said once a second until it is judged. */
  readonly remind: (id: AgentId) => void;
  readonly log: Log;
  readonly clock: Clock;
};

const LOOK_EACH_MS = 1000;
const CLEAN_EACH_LOOKS = 60;
const MOST_AT_ONCE = 256;
const FAILURES_KEPT_MS = 90 * 86_400_000;

/**
 * Looks at the database once a second, for what no request tells: evidence that another verifier took for an agent of this
 * one, or that waited over a restart, and agents that went silent, or never spoke. [MUST] There are no timers for single
 * agents: whatever process takes what evidence, and whenever it was restarted, an agent is missed when it is overdue.
 */
export async function openPushWatch(parts: PushWatchParts): Promise<{ readonly close: () => Promise<void> }> {
  const { agents, attestations, sessions, steps, settings, log, clock } = parts;
  let cancel: (() => void) | undefined;
  let looking: Promise<void> = Promise.resolve();
  let closed = false;
  let looks = 0;

  async function look(): Promise<void> {
    const waiting = new Set(await attestations.unjudged(parts.verifierId));
    for (const id of waiting) parts.remind(id);
    const overdue = await agents.overdue(clock.now(), MOST_AT_ONCE + waiting.size);
    // Whose evidence waits with us is not silent, however long it waits.
    for (const agent of overdue.filter(({ id }) => !waiting.has(id))) await miss(agent);
    if (looks++ % CLEAN_EACH_LOOKS !== 0) return;
    await sessions.forgetExpired(clock.now());
    await attestations.forget(parts.verifierId, clock.now() - FAILURES_KEPT_MS);
  }

  /** What cannot be stored of one agent is tried again with the next look, and keeps no other from being missed. */
  async function miss(agent: Agent): Promise<void> {
    try {
      const saved = await steps.store(agent, silenceTransition(agent, settings));
      if (saved !== undefined) log.warn('An agent sent no evidence in time', { agent: agent.id });
    } catch (error) {
      log.error('The silence of an agent could not be stored; it is tried again', { agent: agent.id, error });
    }
  }

  function plan(): void {
    if (closed) return;
    cancel = clock.after(LOOK_EACH_MS, () => {
      looking = look()
        .catch((error: unknown) => log.error('The database could not be looked at; it is tried again', { error }))
        .finally(plan);
    });
  }

  // While nobody listened, nobody could attest: everybody gets the whole time anew.
  await agents.waitUntil(clock.now() + settings.silenceMs);
  plan();
  return {
    async close() {
      closed = true;
      cancel?.();
      await looking;
    },
  };
}
