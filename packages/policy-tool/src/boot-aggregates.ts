import { bootAggregatesOf } from '@keylime/appraisal/boot-aggregate';
import { DIGEST_SIZES, type HashAlgorithm, isHashAlgorithm } from '@keylime/core/digest';
import { initialPcr, replayEventLog, startupLocality } from '@keylime/event-log/replay';
import { readInput } from './files.ts';
import { readEventLog } from './measured-boot/event-log-file.ts';
import { ToolError } from './tool-error.ts';

/** Where an operator has the boot aggregates from that a verifier would get from the quote. */
export type BootAggregateOptions = {
  /** Lower-case hex. */
  readonly bootAggregate?: readonly string[];
  /** File with values of PCRs. */
  readonly pcrs?: string;
  /** File with a boot event log. */
  readonly eventLog?: string;
};

type Banks = Map<HashAlgorithm, Map<number, Uint8Array>>;

/**
 * The boot aggregates that the options give, or `undefined` if none is given.
 * @throws ToolError `usage`, `file_unreadable`, `pcrs_invalid`, `event_log_invalid`
 */
export async function readBootAggregates(options: BootAggregateOptions): Promise<readonly string[] | undefined> {
  const { bootAggregate, pcrs, eventLog } = options;
  if (bootAggregate === undefined && pcrs === undefined && eventLog === undefined) return undefined;
  for (const hex of bootAggregate ?? []) {
    if (/^(?:[0-9a-f]{2}){20,64}$/.test(hex)) continue;
    throw new ToolError('usage', `--boot-aggregate ${hex}: a digest in lower-case hex is wanted`);
  }
  const found = [...(bootAggregate ?? [])];
  if (pcrs !== undefined) found.push(...(await aggregatesOfPcrs(pcrs)));
  if (eventLog !== undefined) found.push(...(await aggregatesOfLog(eventLog)));
  return found;
}

async function aggregatesOfPcrs(file: string): Promise<readonly string[]> {
  const banks = parsePcrs((await readInput(file, 'PCR values')).toString('latin1'));
  // A verifier takes that of the quoted bank alone, which is SHA-256 where there is one.
  const complete = [...banks].map(([bank, values]) => [bank, bootAggregatesOf(bank, values)] as const);
  const [, found] =
    complete.find(([bank, aggregates]) => bank === 'sha256' && aggregates.length > 0) ??
    complete.find(([, aggregates]) => aggregates.length > 0) ??
    [];
  if (found !== undefined) return found;
  const message = `${file} has not all of PCRs 0 to 7 of a bank: lines of index and value, as tpm2_pcrread prints them, are wanted`;
  throw new ToolError('pcrs_invalid', message);
}

const BANKS_BY_DIGITS: ReadonlyMap<number, HashAlgorithm> = new Map(
  (Object.entries(DIGEST_SIZES) as [HashAlgorithm, number][])
    .filter(([bank]) => bank !== 'sm3_256')
    .map(([bank, size]) => [2 * size, bank]),
);

/** Lines `index value` or `index : 0xVALUE`, the bank in a line before them or told by the length of the values. */
function parsePcrs(text: string): Banks {
  const banks: Banks = new Map();
  let named: HashAlgorithm | 'another' | undefined;
  for (const line of text.split('\n')) {
    const [, name] = /^\s*([a-z0-9_]+)\s*:?\s*$/.exec(line) ?? [];
    if (name !== undefined) named = isHashAlgorithm(name) ? name : 'another';
    const [, index, hex = ''] = /^\s*(\d{1,2})\s*:?\s+(?:0x)?([0-9a-fA-F]+)\s*$/.exec(line) ?? [];
    const bank = named ?? BANKS_BY_DIGITS.get(hex.length);
    if (index === undefined || bank === undefined || bank === 'another') continue;
    if (2 * DIGEST_SIZES[bank] !== hex.length) continue;
    const values = banks.get(bank) ?? new Map<number, Uint8Array>();
    banks.set(bank, values.set(Number(index), Buffer.from(hex, 'hex')));
  }
  return banks;
}

async function aggregatesOfLog(file: string): Promise<readonly string[]> {
  const log = await readEventLog(file);
  const locality = startupLocality(log);
  return [...replayEventLog(log)].flatMap(([bank, replayed]) => {
    const untouched = (pcr: number) => initialPcr(bank, pcr, locality);
    const values = Array.from({ length: 10 }, (_, pcr) => [pcr, replayed.get(pcr) ?? untouched(pcr)] as const);
    return bootAggregatesOf(bank, new Map(values));
  });
}
