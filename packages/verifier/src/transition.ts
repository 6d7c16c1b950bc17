import type { AlgorithmNames } from '@keylime/appraisal/algorithms';
import { type FailureEvent, withMoreFailures } from '@keylime/appraisal/event';
import type { Progress } from '@keylime/appraisal/progress';
import { highestSeverity, type SeverityPolicy, worstEvent } from '@keylime/appraisal/severity';
import { digestHex } from '@keylime/core/digest';
import type { NonEmpty } from '@keylime/core/non-empty';
import type { Agent, AgentRecord } from './agent.ts';
import type { Release } from './release-key-share.ts';
import { type RetrySettings, retryDelayMs } from './retry.ts';

/** What one round with one agent came to. */
export type Outcome =
  | {
      readonly kind: 'affirming';
      readonly progress: Progress;
      readonly declared: AlgorithmNames;
      /** Entries that the list holds beyond the quote: they are asked for again at once. */
      readonly uncertifiedEntries: number;
    }
  /** No verdict yet: entries that the quote covers wait to be judged, and are asked for again at once. */
  | {
      readonly kind: 'unfinished';
      readonly progress: Progress;
      readonly declared: AlgorithmNames;
      readonly unjudgedEntries: number;
    }
  | { readonly kind: 'inconclusive'; readonly progress: Progress; readonly reason: string }
  | {
      readonly kind: 'contraindicated';
      readonly progress: Progress;
      /** Absent where the answer could not be read at all. */
      readonly declared?: AlgorithmNames;
      readonly events: NonEmpty<FailureEvent>;
      /** How many there are beyond `events`. */
      readonly moreEvents?: number;
    }
  /** The agent answered, and this service could not judge it: it took too long, or broke. */
  | { readonly kind: 'unjudged'; readonly progress: Progress; readonly reason: string }
  /** The agent answered, and too many answers wait to be judged: nothing was found out. */
  | { readonly kind: 'postponed'; readonly reason: string }
  /** Nobody answered, or the agent could not: connection errors, timeouts, HTTP 408, 500, 599. */
  | {
      readonly kind: 'unreachable';
      readonly reason: string;
      /** Somebody was there, but not with the enrolled certificate, or that has ended. */
      readonly isOtherCertificate?: true;
    }
  /** The agent speaks another API version now: ask again with this one. */
  | { readonly kind: 'version_changed'; readonly version: string }
  /** The agent answered something that no later round can mend. */
  | { readonly kind: 'refused'; readonly event: FailureEvent };

export type EngineSettings = {
  readonly quoteIntervalMs: number;
  readonly retry: RetrySettings;
  readonly severity: SeverityPolicy;
};

export type Notification = {
  readonly type: 'revocation' | 'comm_error';
  readonly event: FailureEvent;
  readonly severityLabel: string;
};

/** What follows from an outcome: the record to store, the alarm to raise with it, and when to ask again. */
export type Transition = {
  readonly record: AgentRecord;
  readonly notification?: Notification;
  /** `undefined`: the agent is asked no more until an operator says so. */
  readonly nextDelayMs: number | undefined;
};

const MAX_STORED_FAILURES = 20;

/** Wait before a list that was longer than its quote, or than there was time for, is asked for again. */
const CATCH_UP_MS = 20;
/** Wait before an answer is asked for again that nobody had time for. */
export const POSTPONED_MS = 2000;

/**
 * One step of the engine, without I/O: what an outcome makes of an agent's record.
 *
 * - A failure that ends the checks, or of the highest severity, stops polling; a lesser one is recorded and the agent is
 *   asked again after the interval, and a later success returns it to `getQuote` with the worst severity kept.
 * - A notification is raised when the severity rises above the worst seen since enrolment or reactivation.
 * - Rounds that bring no verdict count: too many in a row are a failure, so that an agent can not evade by evasion. Rounds
 *   that got on with a long list do not: they come to an end. Nor does one that this service put off for others.
 *
 * Source: 06 sections 1.3, 1.4, 3.4 of the reference, with its defects mended.
 */
export function transition(agent: Agent, outcome: Outcome, settings: EngineSettings, nowSeconds: number): Transition {
  switch (outcome.kind) {
    case 'affirming':
      return {
        record: {
          ...agent,
          state: isKeyShareDue(agent, outcome) ? 'provideV' : 'getQuote',
          ...quotedAlgorithms(outcome.declared),
          attestationCount: agent.attestationCount + 1,
          lastReceivedQuote: nowSeconds,
          lastSuccessfulAttestation: nowSeconds,
          unreachableRounds: 0,
          inconclusiveRounds: 0,
          progress: outcome.progress,
        },
        nextDelayMs:
          outcome.uncertifiedEntries > 0 ? Math.min(CATCH_UP_MS, settings.quoteIntervalMs) : settings.quoteIntervalMs,
      };
    case 'contraindicated':
      return failed(
        {
          ...agent,
          ...(outcome.declared && quotedAlgorithms(outcome.declared)),
          lastReceivedQuote: nowSeconds,
          unreachableRounds: 0,
          inconclusiveRounds: 0,
          progress: outcome.progress,
        },
        { state: 'invalidQuote', notify: 'revocation', events: outcome.events, moreEvents: outcome.moreEvents ?? 0 },
        settings,
      );
    case 'unfinished': {
      const { progress, declared, unjudgedEntries } = outcome;
      // [MUST] Who sends the list from its start over and over does not get on.
      if (progress.nextEntry <= agent.progress.nextEntry) {
        const reason = `the list was sent from its start again, ${unjudgedEntries} entries before its end`;
        return transition(agent, { kind: 'inconclusive', progress, reason }, settings, nowSeconds);
      }
      const record = { ...agent, ...quotedAlgorithms(declared), lastReceivedQuote: nowSeconds, progress };
      return {
        record: { ...record, unreachableRounds: 0 },
        nextDelayMs: Math.min(CATCH_UP_MS, settings.quoteIntervalMs),
      };
    }
    case 'postponed':
      return { record: agent, nextDelayMs: POSTPONED_MS };
    case 'unjudged': {
      const inconclusiveRounds = agent.inconclusiveRounds + 1;
      const record = { ...agent, inconclusiveRounds, unreachableRounds: 0, progress: outcome.progress };
      if (inconclusiveRounds <= settings.retry.maxRetries) {
        return { record, nextDelayMs: retryDelayMs(settings.retry, inconclusiveRounds) };
      }
      // Nothing was found against the machine, so nothing is revoked: it is missed, as one that does not answer.
      const message = `The answer of the agent could not be judged in ${inconclusiveRounds} rounds: ${outcome.reason}`;
      const event = { eventId: 'internal.verifier.not_judged', recoverable: true, context: { message } };
      return failed(record, { state: 'failed', notify: missed(agent), events: [event] }, settings);
    }
    case 'inconclusive': {
      const inconclusiveRounds = agent.inconclusiveRounds + 1;
      const record = { ...agent, inconclusiveRounds, unreachableRounds: 0, progress: outcome.progress };
      if (inconclusiveRounds <= settings.retry.maxRetries) {
        // The first time at once: a reboot or a new policy only asks for the whole list.
        const wait = inconclusiveRounds === 1 ? 0 : retryDelayMs(settings.retry, inconclusiveRounds - 1);
        return { record, nextDelayMs: wait };
      }
      const message = `No conclusive attestation in ${inconclusiveRounds} rounds: ${outcome.reason}`;
      const event = { eventId: 'qoute_validation.quote_validation', recoverable: false, context: { message } };
      return failed(record, { state: 'invalidQuote', notify: 'revocation', events: [event] }, settings);
    }
    case 'unreachable': {
      const unreachableRounds = agent.unreachableRounds + 1;
      const record = { ...agent, unreachableRounds };
      if (unreachableRounds <= settings.retry.maxRetries) {
        return { record, nextDelayMs: retryDelayMs(settings.retry, unreachableRounds) };
      }
      const event: FailureEvent = {
        eventId: 'internal.verifier.not_reachable',
        recoverable: false,
        context: { message: `Agent was not reachable in ${unreachableRounds} attempts: ${outcome.reason}` },
      };
      return failed(record, { state: 'failed', notify: missed(agent), events: [event] }, settings);
    }
    case 'version_changed': {
      const inconclusiveRounds = agent.inconclusiveRounds + 1;
      const record = { ...agent, inconclusiveRounds, supportedVersion: outcome.version };
      if (inconclusiveRounds <= settings.retry.maxRetries) return { record, nextDelayMs: 0 };
      const message = `The agent changed its API version ${inconclusiveRounds} times and was not attested`;
      const event = { eventId: 'internal.verifier.version_not_supported', recoverable: false, context: { message } };
      return failed(record, { state: 'failed', notify: missed(agent), events: [event] }, settings);
    }
    case 'refused':
      // An attested machine that answers no more questions is missed as one that answers none.
      return failed(agent, { state: 'failed', notify: missed(agent), events: [outcome.event] }, settings);
  }
}

/**
 * Whether the agent is to be given its key share now: once for each boot and each transport key that was attested, so that a
 * machine that was reset, and a payload key that was made anew, get it again. Not while entries of the list that are there
 * wait for their judgement in the next round, and not after a failure, a lesser one included, until an operator reactivates
 * the agent.
 */
const isKeyShareDue = (
  agent: Agent,
  { progress, uncertifiedEntries }: Extract<Outcome, { readonly kind: 'affirming' }>,
): boolean =>
  agent.sealedKeyShare !== undefined &&
  agent.severityLevel === undefined &&
  uncertifiedEntries === 0 &&
  agent.keyShareRecipient !== recipientOf(progress);

/** Names a boot and a transport key: reset count, and SHA-256 of the PEM as received, lower-case hex. */
export const recipientOf = ({ clock, transportKeyPem }: Progress): string =>
  `${clock?.resetCount ?? ''}:${digestHex('sha256', Buffer.from(transportKeyPem ?? ''))}`;

/** The step after the key share was given, or was not: the agent is in state `provideV` and was attested a moment ago. */
export function afterRelease(agent: Agent, release: Release, settings: EngineSettings): Transition {
  switch (release.kind) {
    case 'delivered': {
      const keyShareRecipient = recipientOf(agent.progress);
      return {
        record: { ...agent, state: 'getQuote', keyShareRecipient, keyShareRetries: 0 },
        nextDelayMs: settings.quoteIntervalMs,
      };
    }
    case 'unreachable': {
      const keyShareRetries = agent.keyShareRetries + 1;
      const record = { ...agent, keyShareRetries };
      if (keyShareRetries <= settings.retry.maxRetries) {
        return { record, nextDelayMs: retryDelayMs(settings.retry, keyShareRetries) };
      }
      const message = `The agent did not take its key share in ${keyShareRetries} attempts: ${release.reason}`;
      const event = { eventId: 'internal.verifier.not_reachable_v', recoverable: false, context: { message } };
      return failed(record, { state: 'failed', notify: 'comm_error', events: [event] }, settings);
    }
    case 'refused': {
      const context = { message: release.reason };
      const event = { eventId: 'internal.verifier.no_v', recoverable: false, context };
      return failed(agent, { state: 'failed', notify: 'comm_error', events: [event] }, settings);
    }
  }
}

/** Only a machine that was once attested is missed. */
const missed = ({ attestationCount }: AgentRecord) => (attestationCount > 0 ? 'comm_error' : undefined);

const quotedAlgorithms = (declared: AlgorithmNames) => ({
  hashAlg: declared.hash,
  encAlg: declared.encryption,
  signAlg: declared.signing,
});

function failed(
  record: AgentRecord,
  failure: {
    readonly state: 'failed' | 'invalidQuote';
    readonly notify: Notification['type'] | undefined;
    readonly events: NonEmpty<FailureEvent>;
    readonly moreEvents?: number;
  },
  settings: EngineSettings,
): Transition {
  const { event, severity } = worstEvent(settings.severity, failure.events);
  const rises = severity > (record.severityLevel ?? -1);
  const stops =
    failure.events.some(({ recoverable }) => !recoverable) || severity >= highestSeverity(settings.severity);
  const label = settings.severity.labels[severity] ?? '';
  return {
    record: {
      ...record,
      state: failure.state,
      ...(rises ? { severityLevel: severity, lastEventId: event.eventId } : {}),
      lastFailures: storedFailures(
        [event, ...failure.events.filter((other) => other !== event)],
        failure.moreEvents ?? 0,
      ),
    },
    ...(rises && failure.notify !== undefined
      ? { notification: { type: failure.notify, event, severityLabel: label } }
      : {}),
    nextDelayMs: stops ? undefined : settings.quoteIntervalMs,
  };
}

/** As many as are kept; the last one says how many more there are. */
export const storedFailures = (events: readonly FailureEvent[], moreEvents: number): readonly FailureEvent[] =>
  withMoreFailures(events.slice(0, MAX_STORED_FAILURES), Math.max(0, events.length - MAX_STORED_FAILURES) + moreEvents);
