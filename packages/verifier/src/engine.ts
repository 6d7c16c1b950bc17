import { createPrivateKey, type KeyObject, randomUUID } from 'node:crypto';
import type { FailureEvent } from '@keylime/appraisal/event';
import { fromFirstEntry } from '@keylime/appraisal/progress';
import { highestSeverity, severityOf } from '@keylime/appraisal/severity';
import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { ownCopy } from '@keylime/core/own-copy';
import { parseKeyring } from '@keylime/ima/keyring';
import type { ImaExtendMode } from '@keylime/ima/replay';
import type { RuntimePolicy } from '@keylime/policies/runtime-policy';
import { decodeTpmPolicy } from '@keylime/policies/tpm-policy';
import type { Log } from '@keylime/service/log';
import { decodePublic, publicKey } from '@keylime/tpm/public';
import type { Agent } from './agent.ts';
import type { AgentConnection } from './agent-connection.ts';
import type { AgentStore } from './agent-store.ts';
import { attest, type Expectations, type Judge, type PoliciesOfRound } from './attest.ts';
import type { Clock } from './clock.ts';
import type { MbPolicy } from './mb-policy.ts';
import type { NewDelivery } from './notifications/outbox.ts';
import { revocationMessage } from './notifications/revocation-message.ts';
import { isInGoodStanding } from './operational-state.ts';
import type { PolicyRegistry } from './policy-registry.ts';
import { type Release, releaseKeyShare } from './release-key-share.ts';
import { openScheduler, type SchedulerSettings } from './scheduler.ts';
import type { SecretVault } from './secret-vault.ts';
import { CorruptRowError } from './stored-agent.ts';
import { afterRelease, type EngineSettings, type Outcome, type Transition, transition } from './transition.ts';

export type EngineParts = {
  readonly agents: AgentStore;
  readonly policies: PolicyRegistry<RuntimePolicy>;
  readonly mbPolicies: PolicyRegistry<MbPolicy>;
  /** Opens the way to an agent; nothing is sent yet. */
  readonly connect: (agent: Agent) => AgentConnection;
  readonly settings: EngineSettings & {
    readonly scheduler: SchedulerSettings;
    readonly violations: 'accept' | 'fail';
    /** Of agents whose enrolment names none. */
    readonly extendMode: ImaExtendMode;
    readonly channels: readonly NewDelivery['channel'][];
  };
  readonly judge: Judge;
  readonly vault: SecretVault;
  /** Signs notifications about agents that were enrolled without a key. */
  readonly signingKey: () => KeyObject;
  /** Something was put into the outbox. */
  readonly wakeNotifier: () => void;
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
type Live = { agent: Agent; readonly expectations: Expectations; readonly connection: AgentConnection };

export function openEngine(parts: EngineParts): Engine {
  const { agents, policies, mbPolicies, settings, log, clock } = parts;
  const random = parts.random ?? Math.random;
  const lives = new Map<AgentId, Live>();
  const scheduler = openScheduler(round, settings.scheduler, clock, (id, error) =>
    log.error('An attestation could not be done: a fault of this service, it is tried again', { agent: id, error }),
  );

  function enliven(agent: Agent): Live {
    const live = { agent, expectations: expectationsOf(agent, settings), connection: parts.connect(agent) };
    lives.get(agent.id)?.connection.close();
    lives.set(agent.id, live);
    return live;
  }

  async function round(id: AgentId): Promise<Round> {
    const live = lives.get(id) ?? (await load(id));
    if (live === undefined || !isAsked(live.agent)) {
      drop(id);
      return { nextDelayMs: undefined, healthy: true };
    }
    const started = clock.monotonic();
    const { agent } = live;
    const outcome = await attest(agent, live.expectations, await policiesOf(agent), live.connection, parts.judge);
    parts.onRound?.(id, outcome.kind, clock.monotonic() - started);
    const next = transition(agent, outcome, settings, Math.floor(clock.now() / 1000));
    const healthy = outcome.kind !== 'unreachable';
    const saved = await store(live, next);
    if (saved === undefined) return { nextDelayMs: 0, healthy };
    if (outcome.kind !== 'affirming') report(saved, outcome, next);
    // The verdict is stored, so nobody stopped or deleted the agent meanwhile; only now does the share leave.
    if (outcome.kind === 'affirming' && saved.state === 'provideV') return release(live);
    return goOn(live, next, healthy);
  }

  /**
   * Stores what a step made of an agent, and its alarm with it; `undefined` where an operator changed or deleted the agent
   * meanwhile: what was found is about an agent that is no more.
   */
  async function store(live: Live, next: Transition): Promise<Agent | undefined> {
    const deliveries = deliveriesOf(live.agent, next);
    const saved = await agents.saveRound(live.agent, next.record, deliveries);
    if (saved === undefined) {
      letGo(live);
      return undefined;
    }
    live.agent = saved;
    if (deliveries.length > 0) parts.wakeNotifier();
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
    if (next.nextDelayMs === undefined) sayStopped(saved);
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

  async function policiesOf({ runtimePolicyName, mbPolicyName }: Agent): Promise<PoliciesOfRound> {
    const runtimePolicy = policies.peek(runtimePolicyName) ?? (await policies.get(runtimePolicyName));
    if (mbPolicyName === undefined) return { runtimePolicy, measuredBoot: undefined };
    const mbPolicy = mbPolicies.peek(mbPolicyName) ?? (await mbPolicies.get(mbPolicyName));
    return { runtimePolicy, measuredBoot: mbPolicy.expectation };
  }

  async function load(id: AgentId): Promise<Live | undefined> {
    const agent = await agents.find(id);
    return agent && enliven(agent);
  }

  /** Ends what is under way with the agent, too: [MUST] no key share leaves for one that was stopped or deleted. */
  function drop(id: AgentId): void {
    lives.get(id)?.connection.close();
    lives.delete(id);
  }

  /** Whether an agent in this state is asked: not after a failure that stopped it. */
  function isAsked({ state, lastFailures }: Agent): boolean {
    switch (state) {
      case 'start':
      case 'getQuote':
      case 'provideV':
        return true;
      case 'failed':
      case 'tenantFailed':
        return false;
      case 'invalidQuote': {
        const highest = highestSeverity(settings.severity);
        const stops = (event: FailureEvent) => !event.recoverable || severityOf(settings.severity, event) >= highest;
        return lastFailures.length > 0 && !lastFailures.some(stops);
      }
    }
  }

  const jitter = (delayMs: number | undefined) => delayMs && delayMs * (0.9 + 0.2 * random());

  function deliveriesOf(agent: Agent, { notification }: Transition): readonly NewDelivery[] {
    if (notification === undefined || settings.channels.length === 0) return [];
    const [notificationId, at] = [randomUUID(), new Date(clock.now())];
    const key = signingKeyOf(agent);
    const body = JSON.stringify(revocationMessage(agent, notification, { id: notificationId, at }, key));
    const event = { notificationId, agentId: agent.id, body, createdAtMs: at.getTime() };
    return settings.channels.map((channel) => ({ ...event, channel }));
  }

  /** `undefined` where it cannot be opened: an alarm without signature still reaches the webhook. */
  function signingKeyOf({ id, sealedRevocationKey: sealed }: Agent): KeyObject | undefined {
    if (sealed === undefined) return parts.signingKey();
    try {
      return createPrivateKey(parts.vault.open(id, 'revocation key', sealed));
    } catch (error) {
      log.error('A notification goes out unsigned, and agents will not act upon it', { agent: id, error });
      return undefined;
    }
  }

  function report(agent: Agent, outcome: Outcome, { nextDelayMs }: Transition): void {
    const fields = { agent: agent.id };
    if (outcome.kind === 'inconclusive')
      log.info('The attestation was inconclusive', { ...fields, reason: outcome.reason });
    if (outcome.kind === 'unreachable') log.warn('The agent did not answer', { ...fields, reason: outcome.reason });
    if (outcome.kind === 'version_changed')
      log.info('The agent speaks another API version', { ...fields, version: outcome.version });
    if (isInGoodStanding(agent.state)) return;
    for (const { eventId, context } of agent.lastFailures) {
      log.warn(`${context.message ?? eventId}`, { ...fields, event: eventId });
    }
    for (const text of fieldTexts(agent)) log.error(text, fields);
    if (nextDelayMs === undefined) sayStopped(agent);
  }

  /** [compat] Suites of the field look for this text. */
  const sayStopped = ({ id, lastEventId }: Agent): void =>
    log.warn(`Agent ${id} failed, stopping polling`, { event: lastEventId });

  return {
    async start() {
      const asked = (await agents.list()).filter(isAsked);
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
      const changed = await agents.change(id, (agent) => ({ ...agent, state: 'tenantFailed' }));
      if (changed !== undefined) {
        scheduler.forget(id);
        drop(id);
      }
      return changed !== undefined;
    },
    async reactivate(id) {
      const found = await agents.find(id);
      if (found === undefined) return false;
      if (isInGoodStanding(found.state)) return true;
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

function expectationsOf(
  agent: Agent,
  { violations, extendMode }: Pick<EngineParts['settings'], 'violations' | 'extendMode'>,
): Expectations {
  const akBytes = parseBase64(agent.akTpm);
  const tpmPolicy = decodeTpmPolicy(agent.tpmPolicy);
  if (akBytes === undefined || !tpmPolicy.ok) throw new CorruptRowError(agent.id, 'enrolment');
  const ak = decodePublic(ownCopy(akBytes));
  const keyring = agent.imaSignVerificationKeys === undefined ? undefined : parseKeyring(agent.imaSignVerificationKeys);
  if (keyring?.ok === false) throw new CorruptRowError(agent.id, 'enrolment');
  return {
    ak,
    akKey: publicKey(ak),
    tpmPolicy: tpmPolicy.value,
    verificationKeys: keyring?.value,
    violations,
    extendMode: agent.imaExtendMode ?? extendMode,
  };
}

/** [compat] What suites of the field look for in the log. */
function fieldTexts({ id, hashAlg, lastFailures }: Agent): readonly string[] {
  const imaFailures = lastFailures.filter(({ eventId }) => eventId.startsWith('ima.validation.')).length;
  const modes = `Number of failures in modes: ImaNg ${imaFailures}.`;
  const bootPcrs = lastFailures.filter(({ eventId }) => eventId.startsWith('measured_boot.invalid_pcr_'));
  return [
    ...(imaFailures > 0 ? [`IMA ERRORS: Some entries couldn't be validated. ${modes}`] : []),
    ...bootPcrs.map(({ context: { pcr, expected, got } }) => {
      const values = `the boot event log has value '${expected}' but the agent ${id} returned '${got}'`;
      return `For PCR ${pcr} and hash ${hashAlg} ${values}`;
    }),
  ];
}
