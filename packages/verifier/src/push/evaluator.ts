import type { AgentId } from '@keylime/core/agent-id';
import { parseBase64 } from '@keylime/core/base64';
import { IMA_PCR } from '@keylime/ima/replay';
import type { Log } from '@keylime/service/log';
import type { Agent } from '../agent.ts';
import type { AgentStore } from '../agent-store.ts';
import { type Judge, quotedMask } from '../attest.ts';
import type { Clock } from '../clock.ts';
import { expectationsOf, type JudgementSettings, type PolicySources, policiesOf } from '../expectations.ts';
import { openScheduler, type Round } from '../scheduler.ts';
import type { Steps } from '../steps.ts';
import { type Outcome, POSTPONED_MS } from '../transition.ts';
import type { Attestation } from './attestation.ts';
import type { AttestationStore } from './attestation-store.ts';
import { remainingOf, remembering } from './remaining.ts';
import type { SessionStore } from './session-store.ts';
import { conclusionOf, type PushSettings, pushTransition } from './verdict.ts';

export type EvaluatorParts = PolicySources & {
  readonly agents: Pick<AgentStore, 'find'>;
  readonly attestations: AttestationStore;
  readonly sessions: Pick<SessionStore, 'extend'>;
  readonly steps: Steps;
  readonly judge: Judge;
  readonly settings: PushSettings &
    JudgementSettings & {
      /** What a passing attestation makes the token good for, from then on; absent: it is not extended. */
      readonly tokenLifetimeMs: number | undefined;
      /** After which evidence counts as not to be judged; absent: never. */
      readonly judgeWithinMs: number | undefined;
    };
  readonly log: Log;
  readonly clock: Clock;
  readonly onRound?: (agent: AgentId, outcome: Outcome['kind'], durationMs: number) => void;
};

/** Judges evidence that agents sent by themselves, one after the other for each agent. */
export type Evaluator = {
  /** The agent's newest attestation has evidence. */
  readonly wake: (id: AgentId) => void;
  /** The agent may have evidence that waits: where that is known already, its time stays what it is. */
  readonly remind: (id: AgentId) => void;
  readonly close: () => Promise<void>;
};

/** Attempts to judge one attestation; what breaks our own code each time must not stay unjudged for ever. */
const MOST_FAULTS = 5;

/**
 * [MUST] Every attestation whose evidence was taken ends as passed or failed: what waits is in the database, is taken up after
 * a start, and what cannot be judged ends as failed for that reason. A fault of ours (database, overload) is tried again. A
 * long list is judged over several rounds, of one quote, without the agent: none but the last one ends its attestation.
 */
export function openEvaluator(parts: EvaluatorParts): Evaluator {
  const { agents, attestations, sessions, steps, settings, log, clock } = parts;
  const faults = new Map<AgentId, number>();
  /** Agents whose evidence is being judged, or is to be at a time that is set. */
  const known = new Set<AgentId>();
  const scheduler = openScheduler(evaluate, { maxHealthy: 64, maxUnhealthy: 8 }, clock, (id, error) =>
    log.error('Evidence could not be judged: a fault of this service, it is tried again', { agent: id, error }),
  );

  async function evaluate(id: AgentId) {
    known.add(id);
    const next = await evaluateLatest(id);
    if (next.nextDelayMs === undefined) known.delete(id);
    return next;
  }

  async function evaluateLatest(id: AgentId): ReturnType<Round> {
    const done = { nextDelayMs: undefined, healthy: true };
    // The agent first: if it is enrolled anew meanwhile, the verdict is not stored.
    const agent = await agents.find(id);
    const attestation = await attestations.latest(id);
    if (agent === undefined || attestation?.stage !== 'evaluating_evidence') return done;
    const started = clock.monotonic();
    const outcome = await judgedOrFaulty(agent, attestation);
    if (outcome.kind === 'postponed') return { nextDelayMs: POSTPONED_MS, healthy: true };
    const nowMs = clock.now();
    const next = pushTransition(agent, outcome, settings, nowMs);
    const saved = await steps.store(agent, next, async (trx) => {
      if (outcome.kind === 'unfinished') return attestations.goOn(trx, attestation, outcome.progress.nextEntry);
      await attestations.conclude(trx, attestation, conclusionOf(outcome, nowMs));
      if (outcome.kind === 'affirming' && settings.tokenLifetimeMs !== undefined) {
        await sessions.extend(trx, id, nowMs, nowMs + settings.tokenLifetimeMs);
      }
    });
    // An operator changed the agent meanwhile: its evidence is judged as the agent now is.
    if (saved === undefined) return { nextDelayMs: 0, healthy: true };
    faults.delete(id);
    parts.onRound?.(id, outcome.kind, clock.monotonic() - started);
    if (outcome.kind !== 'affirming') steps.report(saved, outcome, next);
    return outcome.kind === 'unfinished' ? { nextDelayMs: 0, healthy: true } : done;
  }

  async function judgedOrFaulty(agent: Agent, attestation: Attestation): Promise<Outcome> {
    const { judgeWithinMs } = settings;
    const waitedMs = clock.now() - (attestation.evidenceAtMs ?? 0);
    if (judgeWithinMs !== undefined && waitedMs > judgeWithinMs) {
      return unjudged(agent, `it waited ${Math.round(waitedMs / 1000)} seconds for it (verification_timeout)`);
    }
    try {
      return await judged(agent, attestation);
    } catch (error) {
      const count = (faults.get(agent.id) ?? 0) + 1;
      faults.set(agent.id, count);
      if (count < MOST_FAULTS) throw error;
      return unjudged(agent, `judging it failed ${count} times: ${error instanceof Error ? error.message : error}`);
    }
  }

  /** Policies count as they are now, and evidence that they do not ask for, or not enough of, is not judged by them. */
  async function judged(agent: Agent, attestation: Attestation): Promise<Outcome> {
    const { challenge, mask, uefiLog } = attestation.chosen;
    const evidence = await attestations.evidence(attestation);
    const nonce = parseBase64(challenge);
    if (evidence === undefined || nonce === undefined) return unjudged(agent, 'it is not in the database');
    const expectations = expectationsOf(agent, settings);
    const policies = await policiesOf(agent, parts);
    if (!policies.ok) return { kind: 'refused', event: policies.problem };
    const { runtimePolicy, measuredBoot } = policies.value;
    const wanted = quotedMask(expectations, runtimePolicy, measuredBoot);
    if ((wanted || 1) !== mask || uefiLog !== (measuredBoot !== undefined))
      return inconclusive(agent, 'policy_changed');
    const { body, firstEntry, progress } = remainingOf(attestation, evidence, agent.progress, runtimePolicy.checksum);
    const hasList = ((mask >>> IMA_PCR) & 1) === 1;
    if (hasList && firstEntry !== 0 && firstEntry !== agent.progress.nextEntry) {
      return inconclusive(agent, 'the list is to be judged from another entry by now');
    }
    const asked = { mode: 'push', nonce, mask, requestedEntry: firstEntry, accepted: agent.accepted } as const;
    const outcome = await parts.judge(body, { ...expectations, ...asked, runtimePolicy, measuredBoot }, progress);
    return remembering(outcome, agent.progress);
  }

  return {
    wake: (id) => scheduler.schedule(id, 0),
    remind(id) {
      if (!known.has(id)) scheduler.schedule(id, 0);
    },
    close: () => scheduler.close(),
  };
}

/** [MUST] What this service could not do is never found against a machine: nothing is revoked for it. */
const unjudged = ({ progress }: Agent, reason: string): Outcome => ({ kind: 'unjudged', progress, reason });

const inconclusive = ({ progress }: Agent, reason: string): Outcome => ({ kind: 'inconclusive', progress, reason });
