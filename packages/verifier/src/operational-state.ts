/** Operational states as the API numbers them (06 section 1.1 of the reference). */
export const OPERATIONAL_STATES = {
  registered: 0,
  start: 1,
  saved: 2,
  getQuote: 3,
  getQuoteRetry: 4,
  provideV: 5,
  provideVRetry: 6,
  failed: 7,
  terminated: 8,
  invalidQuote: 9,
  tenantFailed: 10,
} as const;

/** The states that this verifier stores. */
export type OperationalState = 'start' | 'getQuote' | 'provideV' | 'failed' | 'invalidQuote' | 'tenantFailed';

const STORED: readonly OperationalState[] = ['start', 'getQuote', 'provideV', 'failed', 'invalidQuote', 'tenantFailed'];

export const parseOperationalState = (value: number): OperationalState | undefined =>
  STORED.find((name) => OPERATIONAL_STATES[name] === value);

/** Whether nothing speaks against an agent in this state: it is asked, and waits for no operator. */
export const isInGoodStanding = (state: OperationalState): boolean =>
  state === 'start' || state === 'getQuote' || state === 'provideV';
