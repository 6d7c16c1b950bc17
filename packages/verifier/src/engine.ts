import { fromFirstEntry } from '@keylime/appraisal/progress';
import type { AgentId } from '@keylime/core/agent-id';
import type { Log } from '@keylime/service/log';
import type { Agent } from './agent.ts';
import type { AgentConnection } from './agent-connection.ts';
import type { AgentStore } from './agent-store.ts';
import { attest, type Judge } from './attest.ts';
import type { Clock } from './clock.ts';
import {
  type Expectations,
  expectationsOf,
  type JudgementSettings,
  type PolicySources,
  policiesOf,
} from './expectations.ts';
import { isInGoodStanding } from './operational-state.ts';
import { type Release, releaseKeyShare } from './release-key-share.ts';
import type { FindRenewed } from './renewed-certificate.ts';
import { openScheduler, type SchedulerSettings } from './scheduler.ts';
import type { SecretVault } from './secret-vault.ts';
import { isAsked, type Steps } from './steps.ts';
import { afterRelease, type EngineSettings, type Outcome, type Transition, transition } from './transition.ts';

export type EngineParts = PolicySources & {
  readonly agents: AgentStore;
  readonly steps: Steps;
  /** Opens the way to an agent; nothing is sent yet. */
  readonly connect: (agent: Agent) => AgentConnection;
  readonly settings: EngineSettings &
    JudgementSettings & {
      readonly scheduler: SchedulerSettings;
      /** Milliseconds after which an agent that pushes and sent nothing is missed. */
      readonly silenceMs: number;
    };
  readonly judge: Judge;
  /** Asked about agents that show another certificate than the enrolled one. */
  readonly findRenewed: FindRenewed;
  readonly vault: SecretVault;
  readonly log: Log;
  readonly clock: Clock;
  readonly random?: () => number;
  readonly onRound?: (agent: AgentId, outcome: Outcome['kind'], durationMs: number) => void;
};

/** Attests every enrolled agent, over and over. */
export type Engine = {
  /** Takes up all agents of the database, spread over one interval. */
  readonly start: () => Promise<void>;
  /** The agent was enrolled or an operator changed it: its stored state decides what happens, beginning now. */
  readonly refresh: (id: AgentId) => void;
  readonly forget: (id: AgentId) => void;
  readonly stop: (id: AgentId) => Promise<boolean>;
  readonly reactivate: (id: AgentId) => Promise<boolean>;
  readonly stats: () => { readonly agents: number; readonly inFlight: number; readonly lagMs: number };
  readonly close: () => Promise<void>;
};

/** What a round tells the scheduler. */
type Round = { readonly nextDelayMs: number | undefined; readonly healthy: boolean };

/** An agent as it is held between rounds: the stored row, its expectations decoded, and the way to it. */
type Live = {
  agent: Agent;
  readonly expectations: Expectations;
  readonly connection: AgentConnection;
  /** When it was last asked whether its certificate was renewed, in milliseconds of the monotonic clock. */
  renewalAskedAt?: number;
};

/** Nobody is asked more often about the certificate of one agent. */
const RENEWAL_ASKED_EVERY_MS = 10_000;

export function openEngine(parts: EngineParts): Engine {
  const { agents, steps, settings, log, clock } = parts;
  const random = parts.random ?? Math.random;
  const lives = new Map<AgentId, Live>();
  const scheduler = openScheduler(round, settings.scheduler, clock, (id, error) =>
    log.error('An attestation could not be done: a fault of this service, it is tried again', { agent: id, error }),
  );

  /** Who pushes has no address to be asked at. */
  const isPolled = (agent: Agent): boolean => agent.mode === 'pull' && isAsked(agent, settings.severity);

  function enliven(agent: Agent): Live {
    const live = { agent, expectations: expectationsOf(agent, settings), connection: parts.connect(agent) };
    lives.get(agent.id)?.connection.close();
    lives.set(agent.id, live);
    return live;
  }

  async function round(id: AgentId): Promise<Round> {
    const live = lives.get(id) ?? (await load(id));
    if (live === undefined || !isPolled(live.agent)) {
      drop(id);
      return { nextDelayMs: undefined, healthy: true };
    }
    const started = clock.monotonic();
    const { agent } = live;
    const policies = await policiesOf(agent, parts);
    const outcome: Outcome = policies.ok
      ? await attest(agent, live.expectations, policies.value, live.connection, parts.judge)
      : { kind: 'refused', event: policies.problem };
    parts.onRound?.(id, outcome.kind, clock.monotonic() - started);
    if (outcome.kind === 'unreachable' && outcome.isOtherCertificate && (await adoptRenewed(live))) {
      return { nextDelayMs: 0, healthy: true };
    }
    const next = transition(agent, outcome, settings, Math.floor(clock.now() / 1000));
    const healthy = outcome.kind !== 'unreachable';
    const saved = await store(live, next);
    if (saved === undefined) return { nextDelayMs: 0, healthy };
    if (outcome.kind !== 'affirming') steps.report(saved, outcome, next);
    // The verdict is stored, so nobody stopped or deleted the agent meanwhile; only now does the share leave.
    if (outcome.kind === 'affirming' && saved.state === 'provideV') return release(live);
    return goOn(live, next, healthy);
  }

  /** Takes up the certificate that the agent has renewed, if it has; tells whether it is to be asked again at once. */
  async function adoptRenewed(live: Live): Promise<boolean> {
    const now = clock.monotonic();
    if (now - (live.renewalAskedAt ?? Number.NEGATIVE_INFINITY) < RENEWAL_ASKED_EVERY_MS) return false;
    live.renewalAskedAt = now;
    const renewed = await parts.findRenewed(live.agent);
    if (renewed === undefined) return false;
    await agents.changeCertificate(live.agent, renewed);
    letGo(live);
    return true;
  }

  /** As `Steps.store`; an agent that somebody else wrote is loaded anew. */
  async function store(live: Live, next: Transition): Promise<Agent | undefined> {
    const saved = await steps.store(live.agent, next);
    if (saved === undefined) letGo(live);
    else live.agent = saved;
    return saved;
  }

  /** When the agent is asked again, if it is; those that do not answer not all at once. */
  function goOn(live: Live, { nextDelayMs }: Transition, healthy: boolean): Round {
    if (nextDelayMs === undefined) letGo(live);
    return { nextDelayMs: healthy ? nextDelayMs : jitter(nextDelayMs), healthy };
  }

  function letGo(live: Live): void {
    if (lives.get(live.agent.id) === live) drop(live.agent.id);
  }

  /** Gives its key share to an agent that was attested in this very round. */
  async function release(live: Live): Promise<Round> {
    const { agent, connection } = live;
    const outcome = await tryRelease(agent, connection);
    if (outcome === undefined) return { nextDelayMs: settings.quoteIntervalMs, healthy: true };
    const next = afterRelease(agent, outcome, settings);
    const healthy = outcome.kind !== 'unreachable';
    const saved = await store(live, next);
    if (saved === undefined) return { nextDelayMs: 0, healthy };
    if (outcome.kind === 'delivered') log.info('The key share was given to the agent', { agent: agent.id });
    else log.warn('The key share could not be given to the agent', { agent: agent.id, reason: outcome.reason });
    if (next.nextDelayMs === undefined) steps.sayStopped(saved);
    return goOn(live, next, healthy);
  }

  /** `undefined` where the share cannot be opened: the agent is attested as before, and the operator is told every time. */
  async function tryRelease(agent: Agent, connection: AgentConnection): Promise<Release | undefined> {
    const { transportKeyPem } = agent.progress;
    if (agent.sealedKeyShare === undefined || transportKeyPem === undefined) return undefined;
    let share: Buffer;
    try {
      share = parts.vault.open(agent.id, 'key share', agent.sealedKeyShare);
    } catch (error) {
      log.error('The key share is not given', { agent: agent.id, error });
      return undefined;
    }
    try {
      return await releaseKeyShare(share, { transportKeyPem, apiVersion: agent.supportedVersion }, connection);
    } finally {
      share.fill(0);
    }
  }

  async function load(id: AgentId): Promise<Live | undefined> {
    const agent = await agents.find(id);
    return agent !== undefined && isPolled(agent) ? enliven(agent) : undefined;
  }

  /** Ends what is under way with the agent, too: [MUST] no key share leaves for one that was stopped or deleted. */
  function drop(id: AgentId): void {
    lives.get(id)?.connection.close();
    lives.delete(id);
  }

  const jitter = (delayMs: number | undefined) => delayMs && delayMs * (0.9 + 0.2 * random());

  return {
    async start() {
      const asked = (await agents.list()).filter(isPolled);
      const spanMs = Math.max(1000, settings.quoteIntervalMs);
      for (const [n, agent] of asked.entries()) {
        // One that cannot be made ready fails in its rounds, over and over, where it is seen and mended.
        scheduler.schedule(agent.id, (n / asked.length) * spanMs);
      }
      log.info(`Attesting ${asked.length} agents`, { interval_ms: settings.quoteIntervalMs });
    },
    refresh(id) {
      drop(id);
      scheduler.schedule(id, 0);
    },
    forget(id) {
      scheduler.forget(id);
      drop(id);
    },
    async stop(id) {
      const changed = await agents.change(id, (agent) => ({ ...agent, state: 'tenantFailed', attestByMs: undefined }));
      if (changed !== undefined) {
        scheduler.forget(id);
        drop(id);
      }
      return changed !== undefined;
    },
    async reactivate(id) {
      const found = await agents.find(id);
      if (found === undefined) return false;
      if (isInGoodStanding(found.state) && !found.silent) return true;
      const changed = await agents.change(id, (agent) => ({
        ...agent,
        state: 'start',
        severityLevel: undefined,
        lastEventId: undefined,
        lastFailures: [],
        unreachableRounds: 0,
        inconclusiveRounds: 0,
        keyShareRecipient: undefined,
        keyShareRetries: 0,
        progress: fromFirstEntry(agent.progress),
        attestByMs: agent.mode === 'push' ? clock.now() + settings.silenceMs : undefined,
        silent: false,
      }));
      if (changed === undefined) return false;
      drop(id);
      scheduler.schedule(id, 0);
      return true;
    },
    stats: () => ({ agents: scheduler.size(), inFlight: scheduler.inFlight(), lagMs: scheduler.lagMs() }),
    async close() {
      await scheduler.close();
      for (const { connection } of lives.values()) connection.close();
      lives.clear();
    },
  };
}
