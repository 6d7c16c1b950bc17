import { Writer as ByteWriter, encode, u8, u16le, u32le, type Writer } from '@keylime/core/codec';
import { digest, digestSize, type HashAlgorithm } from '@keylime/core/digest';
import { EVENT_TYPES, type EventType } from './event-type.ts';
import { BANK_IDS, SPEC_ID_SIGNATURE, SpecIdHead } from './spec-id.ts';

/** A record to write. */
export type EventToEncode = {
  readonly pcr: number;
  readonly type: Exclude<EventType, 'unknown'> | number;
  readonly data: Uint8Array;
  /** What the digests are of; `data` if not given. */
  readonly measured?: Uint8Array;
  /** Digests to write instead of computed ones. */
  readonly digests?: ReadonlyMap<HashAlgorithm, Uint8Array>;
};

/** A crypto-agile log of 64-bit client firmware: the Spec ID event, then `events` with digests for all of `banks`. */
export function encodeEventLog(banks: readonly HashAlgorithm[], events: readonly EventToEncode[]): Buffer {
  const writer = new ByteWriter();
  const specId = encodeSpecId(banks);
  writeNumbers(writer, 0, EVENT_TYPES.EV_NO_ACTION);
  writer.push(Buffer.alloc(digestSize('sha1')));
  writeNumbers(writer, specId.length);
  writer.push(specId);
  for (const event of events) {
    const digests = digestsOf(event, banks);
    writeNumbers(writer, event.pcr, typeIdOf(event), digests.length);
    for (const [bank, value] of digests) {
      u16le.write(writer, BANK_IDS[bank]);
      writer.push(value);
    }
    writeNumbers(writer, event.data.length);
    writer.push(event.data);
  }
  return Buffer.concat(writer.parts);
}

/** A SHA-1 log. */
export function encodeSha1Log(events: readonly EventToEncode[]): Buffer {
  const writer = new ByteWriter();
  for (const event of events) {
    writeNumbers(writer, event.pcr, typeIdOf(event));
    for (const [, value] of digestsOf(event, ['sha1'])) writer.push(value);
    writeNumbers(writer, event.data.length);
    writer.push(event.data);
  }
  return Buffer.concat(writer.parts);
}

const typeIdOf = ({ type }: EventToEncode): number => (typeof type === 'number' ? type : EVENT_TYPES[type]);

/** Digests of an EV_NO_ACTION are zeros, for it extends nothing. */
function digestsOf(event: EventToEncode, banks: readonly HashAlgorithm[]): [HashAlgorithm, Uint8Array][] {
  if (event.digests !== undefined) return [...event.digests];
  if (typeIdOf(event) === EVENT_TYPES.EV_NO_ACTION) return banks.map((bank) => [bank, Buffer.alloc(digestSize(bank))]);
  return banks.map((bank) => [bank, digest(bank, event.measured ?? event.data)]);
}

function writeNumbers(writer: Writer, ...values: readonly number[]): void {
  for (const value of values) u32le.write(writer, value);
}

function encodeSpecId(banks: readonly HashAlgorithm[]): Buffer {
  const head = encode(SpecIdHead, {
    signature: SPEC_ID_SIGNATURE,
    platformClass: 0,
    specVersionMinor: 0,
    specVersionMajor: 2,
    specErrata: 0,
    uintnSize: 2,
    algorithms: banks.map((bank) => ({ algorithmId: BANK_IDS[bank], digestSize: digestSize(bank) })),
  });
  return Buffer.concat([head, encode(u8, 0)]);
}
