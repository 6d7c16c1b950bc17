import { createPrivateKey, type KeyObject, randomUUID } from 'node:crypto';
import type { FailureEvent } from '@keylime/appraisal/event';
import { highestSeverity, type SeverityPolicy, severityOf } from '@keylime/appraisal/severity';
import type { Log } from '@keylime/service/log';
import type { Agent } from './agent.ts';
import type { AgentStore, SaveAlong } from './agent-store.ts';
import type { Clock } from './clock.ts';
import { certificateIn } from './notifications/crl-channel.ts';
import type { NewDelivery } from './notifications/outbox.ts';
import { revocationMessage } from './notifications/revocation-message.ts';
import { isInGoodStanding } from './operational-state.ts';
import type { SecretVault } from './secret-vault.ts';
import type { Outcome, Transition } from './transition.ts';

export type StepParts = {
  readonly agents: Pick<AgentStore, 'saveRound'>;
  readonly channels: readonly NewDelivery['channel'][];
  readonly vault: SecretVault;
  /** Signs notifications about agents that were enrolled without a key. */
  readonly signingKey: () => KeyObject;
  /** Something was put into the outbox. */
  readonly wakeNotifier: () => void;
  readonly log: Log;
  readonly clock: Clock;
};

/** What every verdict goes through, however the evidence came. */
export type Steps = {
  /**
   * Stores what a step made of an agent, and its alarm with it, in one transaction (`along` too); `undefined` where an
   * operator changed or deleted the agent meanwhile: what was found is about an agent that is no more.
   */
  readonly store: (agent: Agent, next: Transition, along?: SaveAlong) => Promise<Agent | undefined>;
  /** Tells the log what came of a round that was not passed. */
  readonly report: (agent: Agent, outcome: Outcome, next: Transition) => void;
  readonly sayStopped: (agent: Agent) => void;
};

export function openSteps({ agents, channels, vault, signingKey, wakeNotifier, log, clock }: StepParts): Steps {
  function deliveriesOf(agent: Agent, { notification }: Transition): readonly NewDelivery[] {
    if (notification === undefined || channels.length === 0) return [];
    const [notificationId, at] = [randomUUID(), new Date(clock.now())];
    const key = signingKeyOf(agent);
    const body = JSON.stringify(revocationMessage(agent, notification, { id: notificationId, at }, key));
    const event = { notificationId, agentId: agent.id, body, createdAtMs: at.getTime() };
    const hasCertificate = notification.type === 'revocation' && certificateIn(agent.metadata) !== undefined;
    const concerned = channels.filter((channel) => channel !== 'crl' || hasCertificate);
    return concerned.map((channel) => ({ ...event, channel }));
  }

  /** `undefined` where it cannot be opened: an alarm without signature still reaches the webhook. */
  function signingKeyOf({ id, sealedRevocationKey: sealed }: Agent): KeyObject | undefined {
    if (sealed === undefined) return signingKey();
    try {
      return createPrivateKey(vault.open(id, 'revocation key', sealed));
    } catch (error) {
      log.error('A notification goes out unsigned, and agents will not act upon it', { agent: id, error });
      return undefined;
    }
  }

  /** [compat] Suites of the field look for this text. */
  const sayStopped = ({ id, lastEventId }: Agent): void =>
    log.warn(`Agent ${id} failed, stopping polling`, { event: lastEventId });

  return {
    async store(agent, next, along) {
      const deliveries = deliveriesOf(agent, next);
      const saved = await agents.saveRound(agent, next.record, deliveries, along);
      if (saved !== undefined && deliveries.length > 0) wakeNotifier();
      return saved;
    },
    report(agent, outcome, { nextDelayMs }) {
      const fields = { agent: agent.id };
      if (outcome.kind === 'inconclusive')
        log.info('The attestation was inconclusive', { ...fields, reason: outcome.reason });
      if (outcome.kind === 'unfinished') {
        const { progress, unjudgedEntries } = outcome;
        const left = { next_entry: progress.nextEntry, entries_left: unjudgedEntries };
        log.info('The measurement list is judged over several rounds', { ...fields, ...left });
      }
      if (outcome.kind === 'postponed')
        log.warn('The answer was not judged yet, and is asked for again', { ...fields, reason: outcome.reason });
      if (outcome.kind === 'unjudged')
        log.error('The answer could not be judged', { ...fields, reason: outcome.reason });
      if (outcome.kind === 'unreachable') log.warn('The agent did not answer', { ...fields, reason: outcome.reason });
      if (outcome.kind === 'version_changed')
        log.info('The agent speaks another API version', { ...fields, version: outcome.version });
      if (isInGoodStanding(agent.state)) return;
      for (const { eventId, context } of agent.lastFailures) {
        log.warn(`${context.message ?? eventId}`, { ...fields, event: eventId });
      }
      for (const text of fieldTexts(agent)) log.error(text, fields);
      if (nextDelayMs === undefined) sayStopped(agent);
    },
    sayStopped,
  };
}

/** Whether the agent's state leaves it to the verifier to go on: not after a failure that waits for an operator. */
export function isAsked({ state, lastFailures }: Agent, severity: SeverityPolicy): boolean {
  switch (state) {
    case 'start':
    case 'getQuote':
    case 'provideV':
      return true;
    case 'tenantFailed':
      return false;
    case 'failed':
    case 'invalidQuote':
      return lastFailures.length > 0 && !lastFailures.some((event) => waitsForOperator(event, severity));
  }
}

/** Whether this failure is one after which an operator decides what becomes of the agent. */
export const waitsForOperator = (event: FailureEvent, severity: SeverityPolicy): boolean =>
  !event.recoverable || severityOf(severity, event) >= highestSeverity(severity);

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
