import { type Reader, u16le, u32le } from '@keylime/core/codec';
import { LAST_PCR, NO_PCR } from './event.ts';
import { EVENT_TYPES, eventTypeName } from './event-type.ts';
import { BANK_IDS } from './spec-id.ts';

/** A record before its data is looked at. `digests` by TPM_ALG_ID, in the order of the record; places are offsets in the log. */
export type LogRecord = {
  readonly offset: number;
  readonly pcr: number;
  readonly typeId: number;
  readonly digests: ReadonlyMap<number, { readonly start: number; readonly end: number }>;
  readonly dataStart: number;
  readonly dataEnd: number;
};

/** Digest sizes in bytes by TPM_ALG_ID. */
export type DigestSizes = ReadonlyMap<number, number>;

const SHA1_SIZE = 20;

/** TCG_PCR_EVENT (TCG PFP 1.06, 10.2.1): the layout of SHA-1 logs, and of the first record of every log. */
export function readPcrEvent(reader: Reader): LogRecord {
  const offset = reader.offset;
  reader.path = 'pcrIndex';
  const pcr = u32le.read(reader);
  reader.path = 'eventType';
  const typeId = u32le.read(reader);
  reader.path = 'digest';
  const start = reader.take(SHA1_SIZE);
  const digests = new Map([[BANK_IDS.sha1, { start, end: reader.offset }]]);
  return { offset, pcr, typeId, digests, ...readData(reader) };
}

/** TCG_PCR_EVENT2 (10.2.2), whose digests have the sizes that the Spec ID event gives. */
export function readPcrEvent2(reader: Reader, sizes: DigestSizes): LogRecord {
  const offset = reader.offset;
  reader.path = 'pcrIndex';
  const pcr = u32le.read(reader);
  reader.path = 'eventType';
  const typeId = u32le.read(reader);
  reader.path = 'digestCount';
  const count = u32le.read(reader);
  if (count > sizes.size) reader.fail(`${count} digests, but the log has ${sizes.size} algorithms`);
  const digests = new Map<number, { start: number; end: number }>();
  for (let i = 0; i < count; i++) {
    reader.path = `digests[${i}]`;
    const algorithmId = u16le.read(reader);
    const size = sizes.get(algorithmId);
    if (size === undefined) reader.fail(`algorithm 0x${algorithmId.toString(16)} is not one of the log`);
    if (digests.has(algorithmId)) reader.fail(`algorithm 0x${algorithmId.toString(16)} twice`);
    const start = reader.take(size);
    digests.set(algorithmId, { start, end: reader.offset });
  }
  return { offset, pcr, typeId, digests, ...readData(reader) };
}

function readData(reader: Reader): { readonly dataStart: number; readonly dataEnd: number } {
  reader.path = 'eventSize';
  const size = u32le.read(reader);
  reader.path = 'event';
  const dataStart = reader.take(size);
  return { dataStart, dataEnd: reader.offset };
}

export const pcrExists = (pcr: number, typeId: number): boolean =>
  pcr <= LAST_PCR || (pcr === NO_PCR && typeId === EVENT_TYPES.EV_NO_ACTION);

/**
 * Where records go on after one that is malformed: the first offset from which whole, plausible records lead exactly to
 * the end of the log; `undefined` if there is none. One pass from the end to the start, in the time and memory of the
 * log's size. `sizes` is undefined for a SHA-1 log.
 */
export function findNextRecord(log: Buffer, after: number, sizes: DigestSizes | undefined): number | undefined {
  const reaches = new Uint8Array(log.length - after + 1);
  reaches[log.length - after] = 1;
  let first: number | undefined;
  for (let offset = log.length - 1; offset > after; offset--) {
    const end = sizes === undefined ? pcrEventEnd(log, offset) : pcrEvent2End(log, offset, sizes);
    if (end === undefined || reaches[end - after] !== 1) continue;
    reaches[offset - after] = 1;
    first = offset;
  }
  return first;
}

function pcrEventEnd(log: Buffer, offset: number): number | undefined {
  if (offset + 32 > log.length) return undefined;
  const typeId = log.readUInt32LE(offset + 4);
  if (eventTypeName(typeId) === 'unknown' || !pcrExists(log.readUInt32LE(offset), typeId)) return undefined;
  return within(log, offset + 32 + log.readUInt32LE(offset + 28));
}

/** A record found by search must have at least one digest: zeros are no records. */
function pcrEvent2End(log: Buffer, offset: number, sizes: DigestSizes): number | undefined {
  if (offset + 16 > log.length) return undefined;
  const count = log.readUInt32LE(offset + 8);
  if (count < 1 || count > sizes.size || !pcrExists(log.readUInt32LE(offset), log.readUInt32LE(offset + 4))) {
    return undefined;
  }
  let at = offset + 12;
  for (let i = 0; i < count; i++) {
    if (at + 2 > log.length) return undefined;
    const size = sizes.get(log.readUInt16LE(at));
    if (size === undefined) return undefined;
    at += 2 + size;
  }
  return at + 4 > log.length ? undefined : within(log, at + 4 + log.readUInt32LE(at));
}

const within = (log: Buffer, end: number): number | undefined => (end <= log.length ? end : undefined);
