import type { FailureEvent } from '@keylime/appraisal/event';
import { fromFirstEntry } from '@keylime/appraisal/progress';
import { type SeverityPolicy, severityOf } from '@keylime/appraisal/severity';
import type { Agent } from '../agent.ts';
import { isAsked, waitsForOperator } from '../steps.ts';
import { type EngineSettings, type Outcome, storedFailures, type Transition, transition } from '../transition.ts';
import type { Conclusion, FailureReason } from './attestation.ts';

export type PushSettings = EngineSettings & {
  /** Milliseconds after which an agent that sent nothing is missed. */
  readonly silenceMs: number;
  /** Whether a passing attestation ends a failure that would otherwise wait for an operator. */
  readonly recoversByItself: boolean;
};

/**
 * What evidence that an agent sent by itself makes of its record: the same as of an agent that is polled, but that a failure
 * which ends polling there ends nothing here. The agent goes on attesting, and what it sends is judged and kept; its record
 * says FAIL until an operator reactivates it, or until it passes where failures end by themselves.
 */
export function pushTransition(agent: Agent, outcome: Outcome, settings: PushSettings, nowMs: number): Transition {
  // A long list is judged on as it is stored here, which ends: unlike one that is asked for again, it need not get on.
  const before = outcome.kind === 'unfinished' ? { ...agent, progress: fromFirstEntry(agent.progress) } : agent;
  const next = transition(before, outcome, settings, Math.floor(nowMs / 1000));
  // Only a verdict ends a silence: with evidence that proves nothing an agent is still missed, and not told of again.
  const silent = agent.silent && outcome.kind !== 'affirming' && outcome.kind !== 'contraindicated';
  const record = {
    ...next.record,
    lastFailures: failuresWithStopping(agent, next, settings.severity),
    silent,
    attestByMs: silent ? undefined : nowMs + settings.silenceMs,
  };
  const done = { ...next, nextDelayMs: 0 };
  if (agent.state === 'tenantFailed')
    return { ...done, record: { ...record, state: agent.state, attestByMs: undefined } };
  if (outcome.kind !== 'affirming' || isAsked(agent, settings.severity)) return { ...done, record };
  if (!settings.recoversByItself) return { ...done, record: { ...record, state: agent.state } };
  // As after a reactivation: the next failure is an alarm again.
  return { ...done, record: { ...record, severityLevel: undefined, lastEventId: undefined } };
}

/**
 * What is to be stored as the last failures. [MUST] The failure that waits for an operator stays among them, the first, as
 * long as it waits: after a lesser one that came later, a pass would end it.
 */
function failuresWithStopping(
  agent: Agent,
  { record: { lastFailures } }: Transition,
  severity: SeverityPolicy,
): readonly FailureEvent[] {
  const stops = (event: FailureEvent) => waitsForOperator(event, severity);
  const isWaiting = agent.state === 'failed' || agent.state === 'invalidQuote';
  const stopping = isWaiting ? agent.lastFailures.find(stops) : undefined;
  if (stopping === undefined || lastFailures.some(stops)) return lastFailures;
  return storedFailures([stopping, ...lastFailures], 0);
}

/**
 * What it makes of an agent's record that nothing came for too long. Its state stays: what was found of its last evidence is
 * still so. [compat] As with agents that are polled, only a machine that was once attested is missed.
 */
export function silenceTransition(agent: Agent, { severity, silenceMs }: PushSettings): Transition {
  const seconds = Math.round(silenceMs / 1000);
  const event: FailureEvent = {
    eventId: 'internal.verifier.not_reachable',
    recoverable: true,
    context: { message: `The agent sent no evidence for ${seconds} seconds` },
  };
  const label = severity.labels[severityOf(severity, event)] ?? '';
  return {
    record: { ...agent, silent: true, attestByMs: undefined },
    ...(agent.attestationCount > 0 && { notification: { type: 'comm_error', event, severityLabel: label } }),
    nextDelayMs: 0,
  };
}

/** Outcomes that end an attestation. */
type Concluding = Exclude<Outcome, { readonly kind: 'unfinished' | 'postponed' }>;

/** What is kept with an attestation. Every one ends as passed or failed; one that could not be judged did not pass. */
export function conclusionOf(outcome: Concluding, completedAtMs: number): Conclusion {
  switch (outcome.kind) {
    case 'affirming':
      return {
        evaluation: 'pass',
        completedAtMs,
        failureReason: undefined,
        failures: [],
        resetCount: outcome.progress.clock?.resetCount,
      };
    case 'contraindicated': {
      const { events, moreEvents = 0 } = outcome;
      const failureReason = events.some(breaksChain) ? 'broken_evidence_chain' : 'policy_violation';
      return failed(failureReason, storedFailures(events, moreEvents), completedAtMs);
    }
    case 'inconclusive':
    case 'unjudged':
    case 'unreachable':
      return failed('not_judged', [notJudged(outcome.reason)], completedAtMs);
    case 'version_changed':
      return failed('not_judged', [notJudged('the agent speaks another API version')], completedAtMs);
    case 'refused':
      return failed('not_judged', [outcome.event], completedAtMs);
  }
}

const failed = (
  failureReason: FailureReason,
  failures: readonly FailureEvent[],
  completedAtMs: number,
): Conclusion => ({
  evaluation: 'fail',
  completedAtMs,
  failureReason,
  failures,
  resetCount: undefined,
});

const notJudged = (reason: string): FailureEvent => ({
  eventId: 'internal.verifier.not_judged',
  recoverable: true,
  context: { message: `The evidence was neither accepted nor refused: ${reason}` },
});

/** Evidence that contradicts itself, unlike a machine that is not as it should be (05 section 7.3 of the reference). */
const breaksChain = ({ eventId }: FailureEvent): boolean =>
  eventId.startsWith('qoute_validation.') ||
  eventId === 'ima.pcr_mismatch' ||
  eventId.startsWith('measured_boot.invalid_pcr_');
