import { hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { decodeBootOrder } from '@keylime/event-log/load-option';

/** PCR 1, on some laptops 5. */
const BOOT_VARIABLE_PCRS: readonly number[] = [1, 5];

const BOOT_ORDER = 'BOOTORDER';

/**
 * The BootOrder of a boot, if there is one that can be nothing else. Its value may have the digest of a separator that tells
 * an error (Boot0001 and Boot0000: the same bytes), and its type is nobody's word. So it has to stand where firmware puts a
 * BootOrder and no separator: the only one of the boot, and in its PCR directly before the options that it lists. All real
 * logs of docs/event-logs.md have it so.
 */
export function findBootOrder(events: readonly MeasuredEvent[]): MeasuredEvent | undefined {
  const [event, ...others] = events.filter(isOrder);
  if (event === undefined || others.length > 0 || event.coverage !== 'value') return undefined;
  const data = hintData(event);
  const order = data.kind === 'variable' ? decodeBootOrder(data.data) : [];
  const ofPcr = events.filter(({ pcr }) => pcr === event.pcr);
  const options = ofPcr.slice(ofPcr.indexOf(event) + 1);
  const isListed = order.every((number, i) => nameOf(options[i]) === optionName(number));
  return isListed && new Set(order).size === order.length ? event : undefined;
}

const isOrder = (event: MeasuredEvent): boolean =>
  BOOT_VARIABLE_PCRS.includes(event.pcr) && nameOf(event) === BOOT_ORDER;

const optionName = (number: number): string => `BOOT${number.toString(16).toUpperCase().padStart(4, '0')}`;

/** Name of the boot variable that an event is of, in upper case, if its data can be of that name; a hint. */
function nameOf(event: MeasuredEvent | undefined): string | undefined {
  if (event?.type !== 'EV_EFI_VARIABLE_BOOT' || event.coverage === 'mismatch') return undefined;
  const data = hintData(event);
  if (data.kind !== 'variable') return undefined;
  const { name, value } = data;
  return value.kind === 'boot_order' || value.kind === 'load_option' ? name.toUpperCase() : undefined;
}
