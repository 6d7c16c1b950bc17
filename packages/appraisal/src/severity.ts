import type { NonEmpty } from '@keylime/core/non-empty';
import type { FailureEvent } from './event.ts';

/**
 * How grave an event is (06 section 3.3 of the reference): labels from lowest to highest, and rules of which the first
 * that matches a whole event id decides.
 */
export type SeverityPolicy = {
  readonly labels: NonEmpty<string>;
  readonly rules: readonly { readonly matches: (eventId: string) => boolean; readonly label: string }[];
};

export const highestSeverity = (policy: SeverityPolicy): number => policy.labels.length - 1;

/**
 * Index of the event's label. An event that ends the round of checks, one without a rule and one whose rule names an
 * unknown label are of the highest severity: silence never makes a failure small.
 */
export function severityOf(policy: SeverityPolicy, event: FailureEvent): number {
  if (!event.recoverable) return highestSeverity(policy);
  const rule = policy.rules.find(({ matches }) => matches(event.eventId));
  const level = rule === undefined ? -1 : policy.labels.indexOf(rule.label);
  return level === -1 ? highestSeverity(policy) : level;
}

/** The gravest event, the first of several, with its severity. */
export function worstEvent(
  policy: SeverityPolicy,
  events: NonEmpty<FailureEvent>,
): { readonly event: FailureEvent; readonly severity: number } {
  return events
    .map((event) => ({ event, severity: severityOf(policy, event) }))
    .reduce((worst, one) => (one.severity > worst.severity ? one : worst));
}
