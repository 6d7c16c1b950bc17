import type { Json } from '@keylime/core/json';
import { hintBytes, hintData } from '@keylime/event-log/coverage';
import type { EventProblem } from '@keylime/event-log/event';
import type { EventView } from './event-view.ts';
import { eventWords } from './event-words.ts';

/** An event as JSON. Texts are as the log has them, byte strings in lower-case hex, integers over 2^53 as text. */
export type EventRow = {
  readonly index: number;
  readonly offset: number;
  readonly pcr: number;
  readonly type: string;
  readonly typeId: number;
  readonly what: string;
  readonly data: 'covered' | 'value_covered' | 'text_covered' | 'hint' | 'mismatch' | 'remark';
  /** By bank. `covered`: of the data, `mismatch`: should be of the data and is not, `other`: of something else. */
  readonly digests: Readonly<Record<string, { readonly digest: string; readonly check: DigestCheck }>>;
  readonly quirks: readonly string[];
  readonly content: Json;
  readonly bytes: string;
};

export type DigestCheck = 'covered' | 'mismatch' | 'other';

const DATA_WORDS = {
  whole: 'covered',
  value: 'value_covered',
  text: 'text_covered',
  none: 'hint',
  mismatch: 'mismatch',
} as const;

export function eventRow(view: EventView): EventRow {
  const { event, measured, coverage } = view;
  const digests: Record<string, { digest: string; check: DigestCheck }> = {};
  for (const [bank, { digest, coverage: found }] of measured) {
    const check = found === 'mismatch' ? 'mismatch' : found === 'none' ? 'other' : 'covered';
    digests[bank] = { digest, check };
  }
  const { index, offset, pcr, type, typeId } = event;
  return {
    index,
    offset,
    pcr,
    type,
    typeId,
    what: eventWords(event),
    data: coverage === undefined ? 'remark' : DATA_WORDS[coverage],
    digests,
    quirks: [...new Set([...event.quirks, ...Array.from(measured.values(), ({ quirks }) => quirks).flat()])],
    content: toJson(hintData(event)),
    bytes: hintBytes(event).toString('hex'),
  };
}

/** The problem as one line. */
export const problemLine = ({ kind, index, offset, field, problem }: EventProblem): string =>
  `event ${index} at byte ${offset}: ${kind.replaceAll('_', ' ')}${field === '' ? '' : `, ${field}`}: ${problem}`;

function toJson(value: unknown): Json {
  if (typeof value === 'bigint') return value <= Number.MAX_SAFE_INTEGER ? Number(value) : value.toString();
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value).filter(([, member]) => member !== undefined);
    return Object.fromEntries(members.map(([name, member]) => [name, toJson(member)]));
  }
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean' ? value : null;
}
