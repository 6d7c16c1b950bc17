import { DecodeError, Reader } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';
import { readEventData } from './decode-data.ts';
import type { BootEvent, EventLog, EventProblem } from './event.ts';
import { NO_PCR } from './event.ts';
import { type EventData, seal } from './event-data.ts';
import { EVENT_TYPES, eventTypeName } from './event-type.ts';
import type { Quirk } from './quirks.ts';
import { type DigestSizes, findNextRecord, type LogRecord, pcrExists, readPcrEvent, readPcrEvent2 } from './record.ts';
import {
  BANK_IDS,
  bankOf,
  type LogAlgorithm,
  REGISTERED_DIGEST_SIZES,
  readSpecId,
  SPEC_ID_SIGNATURE,
  type SpecId,
} from './spec-id.ts';
import type { UintnSize } from './uintn.ts';

/** Bytes of the largest log that is read. */
export const LARGEST_LOG = 16 * 1024 * 1024;
/** The most records that are read: a hundred times as many as the longest log that we know. */
export const MOST_EVENTS = 16_384;

/** The most problems that are reported: a log with as many is not read further. */
export const MOST_PROBLEMS = 256;

/**
 * Decodes a TCG boot event log, the bytes of `binary_bios_measurements`: SHA-1 only (TCG EFI Platform Specification 1.22)
 * or crypto-agile (TCG PC Client Platform Firmware Profile 1.06, 10). Never throws: what cannot be read is a problem with
 * its place, and the rest goes on. Nothing of the result is verified; see `verifyEventLog`. Takes time and memory in
 * proportion to the size of `bytes`, of which the result keeps views.
 */
export function decodeEventLog(bytes: Uint8Array): EventLog {
  const log = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: BootEvent[] = [];
  const problems: EventProblem[] = [];
  const noLog = (kind: EventProblem['kind'], problem: string): EventLog => {
    problems.push({ kind, index: 0, offset: 0, field: '', problem });
    return { format: 'sha1', specId: undefined, algorithms: [], banks: [], events, problems };
  };
  if (log.length === 0) return noLog('log_empty', 'no bytes');
  if (log.length > LARGEST_LOG) return noLog('log_too_large', `${log.length} bytes, over ${LARGEST_LOG}`);

  const header = readHeader(log, problems);
  const { sizes, banks, uintn } = header;
  if (header.event !== undefined) events.push(header.event);
  const reader = new Reader(log, header.end);
  let index = events.length;
  for (; reader.offset < log.length; index++) {
    const { offset } = reader;
    if (index === MOST_EVENTS) {
      const problem = `more than ${MOST_EVENTS} records`;
      problems.push({ kind: 'too_many_events', index, offset, field: '', problem });
      break;
    }
    if (problems.length >= MOST_PROBLEMS) {
      problems.push({ kind: 'too_many_problems', index, offset, field: '', problem: 'the rest is not read' });
      break;
    }
    try {
      const record = sizes === undefined ? readPcrEvent(reader) : readPcrEvent2(reader, sizes);
      events.push(readEvent(log, record, index, banks, uintn, problems));
    } catch (error) {
      problems.push(problemOf(error, 'record_malformed', index));
      reader.offset = findNextRecord(log, offset, sizes) ?? log.length;
    }
  }
  const { format, specId, algorithms } = header;
  return { format, specId, algorithms, banks, events, problems };
}

type Header = Pick<EventLog, 'format' | 'specId' | 'algorithms' | 'banks'> & {
  /** Undefined for a SHA-1 log. */
  readonly sizes: DigestSizes | undefined;
  readonly uintn: UintnSize;
  /** The Spec ID event. */
  readonly event: BootEvent | undefined;
  readonly end: number;
};

const SHA1_ALGORITHM: LogAlgorithm = { algorithmId: BANK_IDS.sha1, digestSize: 20 };

/** Tells the format of the log by the signature in its first record, and reads that record if it is the Spec ID event. */
function readHeader(log: Buffer, problems: EventProblem[]): Header {
  const legacy: Header = {
    format: 'sha1',
    specId: undefined,
    algorithms: [SHA1_ALGORITHM],
    banks: ['sha1'],
    sizes: undefined,
    uintn: 8,
    event: undefined,
    end: 0,
  };
  const record = readFirstRecord(log);
  if (record === undefined || record.typeId !== EVENT_TYPES.EV_NO_ACTION) return legacy;
  const data = log.subarray(record.dataStart, record.dataEnd);
  if (!data.subarray(0, SPEC_ID_SIGNATURE.length).equals(SPEC_ID_SIGNATURE)) return legacy;
  const reader = new Reader(log, record.dataStart, record.dataEnd);
  const quirks: Quirk[] = [];
  let specId: SpecId | undefined;
  let eventData: EventData;
  try {
    specId = readSpecId(reader);
    if (reader.offset !== reader.end) quirks.push('spec_id_trailing_bytes');
    eventData = { kind: 'spec_id', ...specId };
  } catch (error) {
    const problem = problemOf(error, 'spec_id_malformed', 0);
    problems.push(problem);
    eventData = { kind: 'malformed', field: problem.field, problem: problem.problem };
  }
  // Without the sizes of the log those of the registry are the best guess; the problem is reported all the same.
  const algorithms =
    specId?.algorithms ??
    Array.from(REGISTERED_DIGEST_SIZES, ([algorithmId, digestSize]) => ({ algorithmId, digestSize }));
  return {
    format: 'crypto_agile',
    specId,
    algorithms,
    banks: algorithms.flatMap(({ algorithmId }) => bankOf(algorithmId) ?? []),
    sizes: new Map(algorithms.map(({ algorithmId, digestSize }) => [algorithmId, digestSize])),
    uintn: specId?.uintnSize === 1 ? 4 : 8,
    event: {
      index: 0,
      offset: 0,
      pcr: record.pcr,
      typeId: record.typeId,
      type: 'EV_NO_ACTION',
      digests: new Map(),
      quirks,
      sealed: seal({ bytes: data, data: eventData }),
    },
    end: record.dataEnd,
  };
}

function readFirstRecord(log: Buffer): LogRecord | undefined {
  try {
    return readPcrEvent(new Reader(log));
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

function readEvent(
  log: Buffer,
  record: LogRecord,
  index: number,
  banks: readonly HashAlgorithm[],
  uintn: UintnSize,
  problems: EventProblem[],
): BootEvent {
  const { offset, pcr, typeId, dataStart, dataEnd } = record;
  const type = eventTypeName(typeId);
  const quirks: Quirk[] = [];
  const note = (quirk: Quirk): void => {
    if (!quirks.includes(quirk)) quirks.push(quirk);
  };
  const digests = new Map<HashAlgorithm, string>();
  for (const [algorithmId, { start, end }] of record.digests) {
    const bank = bankOf(algorithmId);
    if (bank !== undefined) digests.set(bank, log.toString('hex', start, end));
  }
  if (digests.size === 0) note('no_digests');
  else if (digests.size < banks.length) note('bank_left_out');
  if (index === 0 && type === 'EV_NO_ACTION') note('legacy_log_starts_with_no_action');
  if (pcr === NO_PCR && pcrExists(pcr, typeId)) note('no_action_without_pcr');
  if (!pcrExists(pcr, typeId)) {
    problems.push({ kind: 'pcr_unknown', index, offset, field: 'pcrIndex', problem: `there is no PCR ${pcr}` });
  }
  let data: EventData;
  try {
    data = readEventData({ log, start: dataStart, end: dataEnd, pcr, type, uintn }, note);
    if (data.kind === 'variable' && data.value.kind === 'malformed') {
      const { problem } = data.value;
      problems.push({ kind: 'data_malformed', index, offset: dataStart, field: 'value', problem });
    }
  } catch (error) {
    const problem = problemOf(error, 'data_malformed', index);
    problems.push(problem);
    data = { kind: 'malformed', field: problem.field, problem: problem.problem };
  }
  const sealed = seal({ bytes: log.subarray(dataStart, dataEnd), data });
  return { index, offset, pcr, typeId, type, digests, quirks, sealed };
}

/** @throws what is no DecodeError */
function problemOf(error: unknown, kind: EventProblem['kind'], index: number): EventProblem {
  if (!(error instanceof DecodeError)) throw error;
  const { offset, path: field, problem } = error;
  return { kind, index, offset, field, problem };
}
