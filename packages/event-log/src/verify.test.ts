import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { digest, extend, type HashAlgorithm } from '@keylime/core/digest';
import { hintData } from './coverage.ts';
import { decodeEventLog } from './decode.ts';
import { type EventToEncode, encodeEventLog, encodeSha1Log } from './encode.ts';
import { encodeNumber } from './encode-data.ts';
import { ascii } from './internal/samples.ts';
import { initialPcr, replayBank, startupLocality } from './replay.ts';
import { bootAggregates, type QuotedPcrs, verifyEventLog } from './verify.ts';

const bios = readFileSync(new URL('../../testing/vectors/debian12-secureboot-vm/bios.bin', import.meta.url));
const PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14] as const;

/** A quote of PCRs 0 to 15 that the log of the vector leads to. */
function quoteOf(bank: HashAlgorithm = 'sha256'): QuotedPcrs {
  const replayed = replayBank(decodeEventLog(bios), bank);
  return {
    bank,
    pcrs: new Map(Array.from({ length: 16 }, (_, pcr) => [pcr, replayed.get(pcr) ?? initialPcr(bank, pcr)])),
  };
}

function kindsOf(log: Buffer, quote: QuotedPcrs, pcrs: readonly number[] = PCRS): readonly unknown[] {
  const verified = verifyEventLog(decodeEventLog(log), quote, pcrs);
  return verified.ok
    ? []
    : verified.failures.map((failure) => ('pcr' in failure ? [failure.kind, failure.pcr] : failure.kind));
}

const separator = (pcr: number): EventToEncode => ({ pcr, type: 'EV_SEPARATOR', data: encodeNumber(0, 4) });
const locality = (value: number): EventToEncode => ({
  pcr: 0,
  type: 'EV_NO_ACTION',
  data: Buffer.concat([ascii('StartupLocality\0'), Buffer.of(value)]),
});
const hcrtm: EventToEncode = { pcr: 0, type: 'EV_EFI_HCRTM_EVENT', data: ascii('HCRTM'), measured: ascii('the code') };
const replayed = (...events: readonly EventToEncode[]) =>
  replayBank(decodeEventLog(encodeEventLog(['sha256'], events)), 'sha256');
const extended = (start: number, ...measured: readonly Uint8Array[]): Buffer =>
  measured.reduce<Buffer>(
    (value, data) => extend('sha256', value, digest('sha256', data)),
    initialPcr('sha256', 0, start),
  );

test('PCR 0 starts with the locality that the log tells before its first extend, other PCRs with zeros', () => {
  const zeros = encodeNumber(0, 4);
  assert.deepEqual(replayed(separator(0)).get(0), extended(0, zeros));
  assert.deepEqual(replayed(locality(3), separator(0), separator(1)).get(0), extended(3, zeros));
  assert.deepEqual(replayed(locality(3), separator(1)).get(1), extended(0, zeros));
  assert.deepEqual(replayed(separator(0), locality(3)).get(0), extended(0, zeros));
});

test('with an H-CRTM PCR 0 starts with locality 4, whatever a remark says', () => {
  const expected = extended(4, ascii('the code'), encodeNumber(0, 4));
  assert.deepEqual(replayed(hcrtm, separator(0)).get(0), expected);
  assert.deepEqual(replayed(locality(3), hcrtm, separator(0)).get(0), expected);
});

test('a locality that cannot start a TPM is reported and does not count', () => {
  const log = decodeEventLog(encodeEventLog(['sha256'], [locality(2), separator(0)]));
  assert.deepEqual(
    [log.problems.map(({ kind, field }) => [kind, field]), startupLocality(log)],
    [[['data_malformed', 'locality']], 0],
  );
});

test('PCRs of a dynamic launch start with ones', () => {
  assert.deepEqual(
    replayed(separator(17)).get(17),
    extend('sha256', Buffer.alloc(32, 0xff), digest('sha256', encodeNumber(0, 4))),
  );
});

test('a log that leads to the quote gives its events, with the quoted values, and both boot aggregates', () => {
  const quote = quoteOf();
  const verified = verifyEventLog(decodeEventLog(bios), quote, PCRS);
  assert(verified.ok);
  assert.deepEqual([...verified.log.pcrs.keys()], [...PCRS]);
  assert.equal(verified.log.events.length, 50);
  assert.deepEqual(
    verified.log.remarks.map((event) => hintData(event).kind),
    ['spec_id'],
  );
  assert(verified.comparison.every(({ matches, expected, found }) => matches && expected === found));
  const aggregate = (count: number) =>
    digest('sha256', ...Array.from({ length: count }, (_, pcr) => quote.pcrs.get(pcr) ?? Buffer.alloc(0))).toString(
      'hex',
    );
  assert.deepEqual(bootAggregates(verified.log), [aggregate(8), aggregate(10)]);
});

test('only the events of compared PCRs are given, and no aggregate of PCRs that were not compared', () => {
  const verified = verifyEventLog(decodeEventLog(bios), quoteOf(), [7, 4]);
  assert(verified.ok);
  assert(verified.log.events.every(({ pcr }) => pcr === 4 || pcr === 7));
  assert.equal(verified.log.events.length, 17);
  assert.deepEqual(bootAggregates(verified.log), []);
  const eight = verifyEventLog(decodeEventLog(bios), quoteOf(), [0, 1, 2, 3, 4, 5, 6, 7]);
  assert(eight.ok);
  assert.equal(bootAggregates(eight.log).length, 1);
});

test('every PCR that differs is told, with what the log leads to and what was quoted', () => {
  const quote = quoteOf();
  const other = new Map([...quote.pcrs, [7, Buffer.alloc(32, 1)], [14, Buffer.alloc(32, 2)]]);
  const verified = verifyEventLog(decodeEventLog(bios), { ...quote, pcrs: other }, PCRS);
  assert(!verified.ok);
  assert.deepEqual(
    verified.failures,
    [7, 14].map((pcr) => ({
      kind: 'measured_boot_pcr_mismatch',
      pcr,
      expected: quote.pcrs.get(pcr)?.toString('hex'),
      found: (pcr === 7 ? '01' : '02').repeat(32),
    })),
  );
  assert.deepEqual(
    verified.comparison.filter(({ matches }) => !matches).map(({ pcr }) => pcr),
    [7, 14],
  );
});

test('a PCR that must be compared and was not quoted is a failure', () => {
  const quote = quoteOf();
  const without = new Map([...quote.pcrs].filter(([pcr]) => pcr > 7));
  assert.deepEqual(
    kindsOf(bios, { ...quote, pcrs: without }),
    [0, 1, 2, 3, 4, 5, 6, 7].map((pcr) => ['measured_boot_pcr_not_quoted', pcr]),
  );
});

test('a PCR that the log does not touch must have its initial value', () => {
  const quote = quoteOf();
  assert.deepEqual(kindsOf(bios, quote, [11]), []);
  const extended11 = new Map([...quote.pcrs, [11, Buffer.alloc(32, 1)]]);
  assert.deepEqual(kindsOf(bios, { ...quote, pcrs: extended11 }, [11]), [['measured_boot_pcr_mismatch', 11]]);
});

test('a log without the bank of the quote is a failure, even if nothing is to be compared', () => {
  assert.deepEqual(kindsOf(bios, quoteOf('sha512'), []), ['measured_boot_bank_missing']);
  const sha1 = encodeSha1Log([separator(0)]);
  assert(kindsOf(sha1, quoteOf(), [0]).includes('measured_boot_bank_missing'));
});

test('no log is no match: a machine that was not measured does not pass either', () => {
  const untouched = { bank: 'sha256', pcrs: new Map([[0, Buffer.alloc(32)]]) } as const;
  assert.deepEqual(kindsOf(Buffer.alloc(0), untouched, [0]), [
    'measured_boot_log_malformed',
    'measured_boot_bank_missing',
  ]);
});

test('a record that cannot be read is a failure, whatever PCR it is of', () => {
  const cut = bios.subarray(0, -1);
  const kinds = kindsOf(cut, quoteOf(), [7]);
  assert.deepEqual(kinds, ['measured_boot_log_malformed']);
});

/** `bios` with two records in the other's place. */
function swapped(first: number, second: number): Buffer {
  const { events } = decodeEventLog(bios);
  const bounds = [...events.map(({ offset }) => offset), bios.length];
  const records = events.map((_, i) => bios.subarray(bounds[i], bounds[i + 1]));
  const [a, b] = [records[first], records[second]];
  assert(a && b);
  records[first] = b;
  records[second] = a;
  return Buffer.concat(records);
}

test('events of one PCR in another order, or left out, are found out', () => {
  assert.deepEqual(kindsOf(swapped(4, 5), quoteOf()), [['measured_boot_pcr_mismatch', 7]]);
  const { events } = decodeEventLog(bios);
  const [from, to] = [events[8]?.offset, events[9]?.offset];
  const withoutDbx = Buffer.concat([bios.subarray(0, from), bios.subarray(to)]);
  assert.deepEqual(kindsOf(withoutDbx, quoteOf()), [['measured_boot_pcr_mismatch', 7]]);
});

test('an event behind the last one is found out', () => {
  const more = encodeEventLog(['sha1', 'sha256', 'sha384'], [{ pcr: 9, type: 'EV_IPL', data: ascii('/x\0') }]);
  const record = more.subarray(32 + more.readUInt32LE(28));
  assert.deepEqual(kindsOf(Buffer.concat([bios, record]), quoteOf()), [['measured_boot_pcr_mismatch', 9]]);
});

test('an unlogged ExitBootServices counts for PCR 5 only', () => {
  const logged = encodeEventLog(['sha256'], [separator(4)]);
  const exits = ['Exit Boot Services Invocation', 'Exit Boot Services Returned with Success'].map(ascii);
  const pcrs = new Map([[4, extended(0, encodeNumber(0, 4), ...exits)]]);
  assert.deepEqual(kindsOf(logged, { bank: 'sha256', pcrs }, [4]), [['measured_boot_pcr_mismatch', 4]]);
});

test('PCR 11 may be as systemd leaves it after the boot that is logged, at any phase but in no other order', () => {
  const logged = encodeEventLog(['sha256'], [separator(11)]);
  const verify = (pcr: number, ...phases: readonly string[]) => {
    const pcrs = new Map([[pcr, extended(0, encodeNumber(0, 4), ...phases.map(ascii))]]);
    const log = pcr === 11 ? logged : encodeEventLog(['sha256'], [separator(pcr)]);
    return verifyEventLog(decodeEventLog(log), { bank: 'sha256', pcrs }, [pcr]);
  };
  for (const phases of [
    ['enter-initrd'],
    ['enter-initrd', 'leave-initrd', 'sysinit', 'ready'],
    ['sysinit', 'ready'],
    ['enter-initrd', 'leave-initrd', 'sysinit', 'ready', 'shutdown', 'final'],
  ]) {
    const verified = verify(11, ...phases);
    assert(verified.ok, phases.join());
    assert.deepEqual(verified.log.unloggedPhases, phases);
  }
  for (const phases of [['ready'], ['leave-initrd'], ['sysinit', 'sysinit'], ['enter-initrd', 'ready'], ['x']]) {
    assert.equal(verify(11, ...phases).ok, false, phases.join());
  }
  assert.equal(verify(12, 'sysinit').ok, false);
  const quiet = verify(11);
  assert(quiet.ok);
  assert.deepEqual(quiet.log.unloggedPhases, []);
});
