import type { HashAlgorithm } from '@keylime/core/digest';
import { type MeasuredEvent, measuredIn } from '@keylime/event-log/coverage';
import type { EventLog } from '@keylime/event-log/event';
import type { DigestJson } from '@keylime/measured-boot/reference-json';
import { ToolError } from '../tool-error.ts';

/** Events of a log as the first of the banks knows them, and their digests in all of the banks. */
export type ReferenceSource = {
  readonly log: EventLog;
  readonly events: readonly MeasuredEvent[];
  readonly digestOf: (event: MeasuredEvent) => DigestJson;
};

/** @throws ToolError `log_unsuitable` if the log has not all of `banks` */
export function openSource(log: EventLog, banks: readonly HashAlgorithm[]): ReferenceSource {
  const [bank] = banks;
  const missing = banks.find((each) => !log.banks.includes(each));
  if (bank === undefined || missing !== undefined) {
    const there = log.banks.join(', ') || 'none';
    throw new ToolError('log_unsuitable', `The log has no digests of ${missing}: choose of ${there} with --hash-alg`);
  }
  const events = log.events.flatMap((event) => measuredIn(event, bank) ?? []);
  const digestOf = ({ index }: MeasuredEvent): DigestJson => {
    const digests = log.events[index]?.digests;
    const known = banks.flatMap((each) => {
      const hex = digests?.get(each);
      return hex === undefined ? [] : [[each, `0x${hex}`]];
    });
    return Object.fromEntries(known);
  };
  return { log, events, digestOf };
}

/** Digests of events by PCR, each once. */
export function digestsByPcr(
  events: readonly MeasuredEvent[],
  { digestOf }: ReferenceSource,
): { readonly [pcr: string]: readonly DigestJson[] } {
  const byPcr: Record<string, DigestJson[]> = {};
  const seen = new Set<string>();
  for (const event of events) {
    const key = `${event.pcr}:${event.digest}`;
    if (seen.has(key)) continue;
    seen.add(key);
    const list = byPcr[event.pcr] ?? [];
    byPcr[event.pcr] = list;
    list.push(digestOf(event));
  }
  return byPcr;
}

/** What stops a reference state from being half of one. */
export const missingEvent = (event: string, consequence: string): ToolError =>
  new ToolError(
    'log_unsuitable',
    `The log has no ${event}: ${consequence}. See what it has with \`keylime-policy show event-log\``,
  );
