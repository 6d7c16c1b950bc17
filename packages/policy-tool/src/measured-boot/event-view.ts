import type { HashAlgorithm } from '@keylime/core/digest';
import {
  type Coverage,
  type CoveredData,
  coveredData,
  type MeasuredEvent,
  measuredIn,
} from '@keylime/event-log/coverage';
import type { BootEvent, EventLog } from '@keylime/event-log/event';

/** An event as all banks of its log know it. */
export type EventView = {
  readonly event: BootEvent;
  /** As each bank that it extended knows it; empty for a remark. */
  readonly measured: ReadonlyMap<HashAlgorithm, MeasuredEvent>;
  /** What the digests of all banks cover; `undefined` for a remark, which extends nothing. */
  readonly coverage: Coverage | undefined;
};

export function viewEvents(log: EventLog): readonly EventView[] {
  return log.events.map((event) => {
    const measured = new Map<HashAlgorithm, MeasuredEvent>();
    for (const bank of log.banks) {
      const found = measuredIn(event, bank);
      if (found !== undefined) measured.set(bank, found);
    }
    return { event, measured, coverage: leastCoverage(measured) };
  });
}

/** From least to most: where banks differ, somebody wrote into one of them. */
const BY_COVERAGE: readonly Coverage[] = ['mismatch', 'none', 'value', 'text', 'whole'];

function leastCoverage(measured: EventView['measured']): Coverage | undefined {
  const found = new Set(Array.from(measured.values(), ({ coverage }) => coverage));
  return BY_COVERAGE.find((coverage) => found.has(coverage));
}

/** Data that the digests of all banks cover. */
export function believedData({ measured, coverage }: EventView): CoveredData | undefined {
  for (const event of measured.values()) if (event.coverage === coverage) return coveredData(event);
  return undefined;
}
