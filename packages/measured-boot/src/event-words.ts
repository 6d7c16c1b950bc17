import { hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import type { BootViolation } from './policy.ts';

const LONGEST = 400;

/** A violation by `event`. */
export const violationBy = (
  event: MeasuredEvent,
  reason: string,
  words: { readonly expected?: string; readonly found?: string } = {},
): BootViolation => ({ reason, event: event.index, pcr: event.pcr, type: event.type, ...words });

/** The digest of an event and what it says that it is of, for a person to recognize it. */
export function digestWords(event: MeasuredEvent): string {
  const name = nameWords(event);
  return name === '' ? `${event.bank} ${event.digest}` : `${event.bank} ${event.digest} (${name})`;
}

/** What an event says that was measured; covered or not, and whatever an attacker wrote there. */
export function nameWords(event: MeasuredEvent): string {
  const data = hintData(event);
  switch (data.kind) {
    case 'text':
    case 'grub':
    case 'load_options':
      return shown(data.text);
    case 'file':
      return shown(data.path);
    case 'image_load':
      return shown(data.devicePath);
    case 'variable':
    case 'shim_variable':
    case 'section':
      return shown(data.name);
    case 'tag':
      return data.meaning.replaceAll('_', ' ');
    default:
      return '';
  }
}

/** `text` on one line without characters that do something to a terminal. */
export function shown(text: string): string {
  const plain = text.replace(/\p{C}/gu, '?');
  return plain.length > LONGEST ? `${plain.slice(0, LONGEST)}…` : plain;
}
