import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { hintBytes, hintData, measuredIn } from './coverage.ts';
import { decodeEventLog, LARGEST_LOG, MOST_EVENTS, MOST_PROBLEMS } from './decode.ts';
import { type EventToEncode, encodeEventLog, encodeSha1Log } from './encode.ts';
import { encodeNumber } from './encode-data.ts';
import { EVENT_TYPES } from './event-type.ts';
import { ascii } from './internal/samples.ts';
import { replayEventLog } from './replay.ts';
import { BANK_IDS } from './spec-id.ts';

const bios = readFileSync(new URL('../../testing/vectors/debian12-secureboot-vm/bios.bin', import.meta.url));

const separator = (pcr: number): EventToEncode => ({ pcr, type: 'EV_SEPARATOR', data: encodeNumber(0, 4) });
const SEPARATORS = [0, 1, 2, 3].map(separator);
const LOG = encodeEventLog(['sha1', 'sha256'], SEPARATORS);
const SPEC_ID_END = 32 + LOG.readUInt32LE(28);
/** Bytes of one of the separators. */
const RECORD_SIZE = 12 + (2 + 20) + (2 + 32) + 4 + 4;

/** `LOG` after `change`. */
function changed(change: (log: Buffer) => void): Buffer {
  const log = Buffer.from(LOG);
  change(log);
  return log;
}

test('events have their place in the log: index, offset, PCR, type and digests', () => {
  const { events } = decodeEventLog(LOG);
  assert.deepEqual(
    events.map(({ index, offset, pcr, type }) => [index, offset, pcr, type]),
    [[0, 0, 0, 'EV_NO_ACTION'], ...[0, 1, 2, 3].map((i) => [i + 1, SPEC_ID_END + i * RECORD_SIZE, i, 'EV_SEPARATOR'])],
  );
  const zero = '3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969';
  const { sha1, sha256 } = Object.fromEntries(replayEventLog(decodeEventLog(LOG)));
  assert.equal(sha256?.get(3)?.toString('hex'), zero);
  assert.equal(sha1?.get(3)?.toString('hex'), 'b2a83b0ebf2f8374299a5b2bdfc31ea955ad7236');
});

test('a SHA-1 log decodes: every record, the first included', () => {
  const log = decodeEventLog(encodeSha1Log(SEPARATORS));
  assert.deepEqual([log.format, log.banks, log.specId, log.problems], ['sha1', ['sha1'], undefined, []]);
  assert.deepEqual(log.events.map(hintData), Array(4).fill({ kind: 'separator', value: 0 }));
});

test('the Spec ID event tells versions, algorithms and the size of UINTN', () => {
  const { specId, algorithms, events } = decodeEventLog(LOG);
  assert.deepEqual(algorithms, [
    { algorithmId: 4, digestSize: 20 },
    { algorithmId: 11, digestSize: 32 },
  ]);
  assert.deepEqual([specId?.specVersionMajor, specId?.uintnSize, specId?.vendorInfo.length], [2, 2, 0]);
  assert.equal(events[0] && hintData(events[0]).kind, 'spec_id');
});

test('no bytes are no log, nor is text, nor are too many bytes', () => {
  const kindsOf = (bytes: Buffer) => decodeEventLog(bytes).problems.map(({ kind }) => kind);
  assert.deepEqual(kindsOf(Buffer.alloc(0)), ['log_empty']);
  assert.deepEqual(kindsOf(ascii('This is not a log of boot events.\n')), ['record_malformed']);
  assert.deepEqual(kindsOf(Buffer.alloc(LARGEST_LOG + 1)), ['log_too_large']);
});

test('more records than fit a machine are refused, and those before them kept', () => {
  const record = LOG.subarray(SPEC_ID_END, SPEC_ID_END + RECORD_SIZE);
  const log = decodeEventLog(Buffer.concat([LOG.subarray(0, SPEC_ID_END), ...Array(MOST_EVENTS).fill(record)]));
  assert.deepEqual(
    log.problems.map(({ kind, index }) => [kind, index]),
    [['too_many_events', MOST_EVENTS]],
  );
  assert.equal(log.events.length, MOST_EVENTS);
});

test('a log with hundreds of problems is not read further', () => {
  const bad: EventToEncode = { pcr: 7, type: 'EV_SEPARATOR', data: ascii('x') };
  const log = decodeEventLog(encodeEventLog(['sha256'], Array(MOST_PROBLEMS + 10).fill(bad)));
  assert.equal(log.events.length, 1 + MOST_PROBLEMS);
  assert.deepEqual(
    [log.problems.length, log.problems.at(-1)?.kind, log.problems.at(-1)?.index],
    [MOST_PROBLEMS + 1, 'too_many_problems', MOST_PROBLEMS + 1],
  );
});

for (const [what, field, problem, change] of [
  [
    'more digests than the log has algorithms',
    'digestCount',
    '3 digests, but the log has 2 algorithms',
    (log, at) => log.writeUInt32LE(3, at + 8),
  ],
  [
    'a digest of an algorithm that the log does not have',
    'digests[0]',
    'algorithm 0xc is not one of the log',
    (log, at) => log.writeUInt16LE(BANK_IDS.sha384, at + 12),
  ],
  [
    'two digests of one algorithm',
    'digests[1]',
    'algorithm 0x4 twice',
    (log, at) => log.writeUInt16LE(BANK_IDS.sha1, at + 34),
  ],
  [
    'data beyond the end of the log',
    'event',
    /^1000000 bytes wanted/,
    (log, at) => log.writeUInt32LE(1_000_000, at + 68),
  ],
] as const satisfies [string, string, string | RegExp, (log: Buffer, at: number) => void][]) {
  test(`a record with ${what} is reported, and the ones behind it are found`, () => {
    const at = SPEC_ID_END + RECORD_SIZE;
    const { events, problems } = decodeEventLog(changed((log) => change(log, at)));
    assert.equal(problems.length, 1);
    const [found] = problems;
    assert.deepEqual([found?.kind, found?.index, found?.field], ['record_malformed', 2, field]);
    assert.match(found?.problem ?? '', new RegExp(problem));
    assert.deepEqual(
      events.map(({ index, pcr }) => [index, pcr]),
      [
        [0, 0],
        [1, 0],
        [3, 2],
        [4, 3],
      ],
    );
  });
}

test('a malformed record of a SHA-1 log is reported, and the ones behind it are found', () => {
  const log = encodeSha1Log(SEPARATORS);
  log.writeUInt32LE(0x7fff_ffff, 36 + 28);
  const { events, problems } = decodeEventLog(log);
  assert.deepEqual(
    [problems.map(({ kind, index }) => [kind, index]), events.map(({ index, pcr }) => [index, pcr])],
    [
      [['record_malformed', 1]],
      [
        [0, 0],
        [2, 2],
        [3, 3],
      ],
    ],
  );
});

test('a log that is cut short tells so, and keeps what is whole', () => {
  for (let size = SPEC_ID_END + 1; size < LOG.length; size++) {
    const { events, problems } = decodeEventLog(LOG.subarray(0, size));
    const whole = Math.floor((size - SPEC_ID_END) / RECORD_SIZE);
    assert.equal(events.length, 1 + whole);
    const cut = (size - SPEC_ID_END) % RECORD_SIZE !== 0;
    assert.deepEqual(
      problems.map(({ kind, index }) => [kind, index]),
      cut ? [['record_malformed', 1 + whole]] : [],
    );
  }
});

test('a PCR that does not exist is reported; its event is in the list and extends nothing', () => {
  for (const pcr of [24, 0x8000_0000, 0xffff_ffff]) {
    const log = decodeEventLog(changed((bytes) => bytes.writeUInt32LE(pcr, SPEC_ID_END)));
    assert.deepEqual(
      log.problems.map(({ kind, index }) => [kind, index]),
      [['pcr_unknown', 1]],
    );
    assert.equal(log.events.length, 5);
    assert.deepEqual([...(replayEventLog(log).get('sha256')?.keys() ?? [])], [1, 2, 3]);
  }
});

test('data that is not what its type says is reported with its place, and its event is extended all the same', () => {
  const bad: EventToEncode = { pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data: ascii('no variable at all') };
  const log = decodeEventLog(encodeEventLog(['sha256'], [separator(0), bad, separator(1)]));
  assert.deepEqual(
    log.problems.map(({ kind, index, field }) => [kind, index, field]),
    [['data_malformed', 2, 'nameLength']],
  );
  assert.equal(log.problems[0]?.offset, (log.events[2]?.offset ?? 0) + 12 + 34 + 4 + 16);
  assert.equal(log.events.length, 4);
  assert(replayEventLog(log).get('sha256')?.has(7));
});

for (const [what, field, change] of [
  ['no algorithm', 'algorithms', (log) => log.writeUInt32LE(0, 56)],
  ['17 algorithms', 'algorithms', (log) => log.writeUInt32LE(17, 56)],
  ['a wrong size for a known algorithm', 'algorithms', (log) => log.writeUInt16LE(32, 62)],
  ['an algorithm twice', 'algorithms', (log) => Buffer.from('04001400', 'hex').copy(log, 64)],
  ['vendorInfo beyond its end', 'vendorInfo', (log) => log.writeUInt8(1, 68)],
] as const satisfies [string, string, (log: Buffer) => void][]) {
  test(`a Spec ID event with ${what} is reported, and the records are read with the usual sizes`, () => {
    const { events, problems } = decodeEventLog(changed(change));
    assert.deepEqual(
      problems.map(({ kind, index, field: where }) => [kind, index, where]),
      [['spec_id_malformed', 0, field]],
    );
    assert.deepEqual(
      events.map(({ pcr }) => pcr),
      [0, 0, 1, 2, 3],
    );
  });
}

test('digests of an algorithm that we cannot compute are skipped by the size that the log gives', () => {
  const sm3Twin = 0x0b00;
  const log = changed((bytes) => {
    bytes.writeUInt16LE(sm3Twin, 60);
    for (let i = 0; i < 4; i++) bytes.writeUInt16LE(sm3Twin, SPEC_ID_END + i * RECORD_SIZE + 12);
  });
  const { banks, algorithms, events, problems } = decodeEventLog(log);
  assert.deepEqual([banks, algorithms[0], problems], [['sha256'], { algorithmId: sm3Twin, digestSize: 20 }, []]);
  assert.deepEqual([...(events[1]?.digests.keys() ?? [])], ['sha256']);
});

test('decoding makes the same of a log wherever it lies in memory', () => {
  const padded = Buffer.concat([Buffer.alloc(5), bios]);
  const shown = (log: ReturnType<typeof decodeEventLog>) => log.events.map((event) => [event.offset, hintData(event)]);
  assert.deepEqual(
    shown(decodeEventLog(new Uint8Array(padded.buffer, padded.byteOffset + 5, bios.length))),
    shown(decodeEventLog(bios)),
  );
});

const typeIds = fc.oneof(fc.constantFrom(...Object.values(EVENT_TYPES)), fc.nat(0xffff_ffff));
const anyEvent = fc.record({
  pcr: fc.nat(23),
  type: typeIds.filter((id) => id !== EVENT_TYPES.EV_NO_ACTION),
  data: fc.uint8Array({ maxLength: 80 }),
});

test('a log decodes to what was encoded', () => {
  fc.assert(
    fc.property(fc.array(anyEvent, { maxLength: 8 }), (events) => {
      const log = decodeEventLog(encodeEventLog(['sha256', 'sha384'], events));
      assert.deepEqual(
        log.events.slice(1).map((event) => [event.pcr, event.typeId, hintBytes(event)]),
        events.map(({ pcr, type, data }) => [pcr, type, Buffer.from(data)]),
      );
      assert(log.problems.every(({ kind }) => kind === 'data_malformed'));
    }),
  );
});

test('no bytes make the decoder fail, and every event is read or reported', () => {
  const readAll = (bytes: Uint8Array): void => {
    const log = decodeEventLog(bytes);
    for (const event of log.events) for (const bank of log.banks) measuredIn(event, bank);
    replayEventLog(log);
    assert(log.events.length + log.problems.length > 0);
  };
  fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), readAll), { numRuns: 500 });
  const patch = fc.record({ at: fc.nat(bios.length - 1), bytes: fc.uint8Array({ minLength: 1, maxLength: 8 }) });
  fc.assert(
    fc.property(fc.array(patch, { minLength: 1, maxLength: 4 }), fc.nat(bios.length), (patches, size) => {
      const mutated = Buffer.from(bios);
      for (const { at, bytes } of patches) mutated.set(bytes.subarray(0, mutated.length - at), at);
      readAll(mutated);
      readAll(mutated.subarray(0, size));
    }),
    { numRuns: 200 },
  );
});
