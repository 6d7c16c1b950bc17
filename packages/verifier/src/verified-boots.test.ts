import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BootQuestion, judgeBoot, verifyBoot } from '@keylime/appraisal/boot-verdict';
import { good } from '@keylime/core/parsed';
import { hintBytes } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { encodeEventLog } from '@keylime/event-log/encode';
import { replayBank } from '@keylime/event-log/replay';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import type { MeasuredBootPolicy } from '@keylime/measured-boot/policy';
import { rememberVerifiedBoots } from './verified-boots.ts';

const logOf = (text: string) =>
  encodeEventLog(['sha256'], [{ pcr: 4, type: 'EV_EFI_ACTION', data: Buffer.from(text) }]);

/** A boot whose log leads to its PCR. */
function boot(text: string, changes: Partial<BootQuestion> = {}): BootQuestion {
  const log = logOf(text);
  const pcrs = Array.from(
    replayBank(decodeEventLog(log), 'sha256'),
    ([pcr, value]) => [pcr, value.toString('hex')] as const,
  );
  const reference = { rules: 'rules', text: undefined, checksum: 'c', edition: 'e' };
  return { key: text, log, bank: 'sha256', pcrs, reference, evaluate: 'always', ...changes };
}

const pcrValues = ({ pcrs }: VerifiedEventLog) => Array.from(pcrs, ([pcr, value]) => [pcr, value.toString('hex')]);

function counting(mostBytes = 1_000_000) {
  let verified = 0;
  const verify = rememberVerifiedBoots(mostBytes, (question) => {
    verified++;
    return verifyBoot(question);
  });
  return { verify, verified: () => verified };
}

test('the log of a boot that is judged at every attestation is decoded and replayed once', () => {
  const { verify, verified } = counting();
  for (let round = 0; round < 3; round++) assert.ok(verify(boot('a')).ok);
  assert.equal(verified(), 1);
});

test('what is asked once only is not remembered', () => {
  const { verify, verified } = counting();
  for (let round = 0; round < 2; round++) verify(boot('a', { evaluate: 'once' }));
  assert.equal(verified(), 2);
});

test('[MUST] a log that does not lead to its PCRs is refused every time, also under the key of one that did', () => {
  const { verify } = counting();
  const { pcrs } = boot('a');
  assert.ok(verify(boot('a')).ok);
  assert.equal(verify(boot('a', { log: logOf('b') })).ok, false, 'other bytes');
  assert.ok(verify(boot('a')).ok);
  assert.equal(verify(boot('a', { pcrs: [[4, '00'.repeat(32)]] })).ok, false, 'another value of a PCR');
  assert.ok(verify(boot('a')).ok);
  assert.equal(verify(boot('a', { pcrs: [...pcrs, [5, '11'.repeat(32)]] })).ok, false, 'another PCR');
  assert.ok(verify(boot('a')).ok);
  assert.equal(verify(boot('a', { bank: 'sha1' })).ok, false, 'another bank');
  for (let round = 0; round < 2; round++) assert.equal(verify(boot('a', { log: logOf('b') })).ok, false);
});

test('the boots that were not asked for longest are forgotten first', () => {
  const size = logOf('a').length;
  const { verify, verified } = counting(2 * size);
  for (const text of ['a', 'b', 'a', 'c']) verify(boot(text));
  assert.equal(verified(), 3);
  verify(boot('a'));
  assert.equal(verified(), 3, 'a is remembered');
  verify(boot('b'));
  assert.equal(verified(), 4, 'b is not');
  const small = counting(size - 1);
  for (let round = 0; round < 2; round++) small.verify(boot('a'));
  assert.equal(small.verified(), 2, 'one that is larger than all that may be remembered');
});

test('[MUST] a policy that changes what it is given changes nothing for the next attestation', () => {
  const spoils: readonly (readonly [string, (log: VerifiedEventLog) => unknown])[] = [
    ['the list of events', ({ events }) => (events as unknown[]).pop()],
    ['an event', ({ events }) => Object.assign(events[0] ?? {}, { digest: '' })],
    ['the bytes', ({ events }) => events.map((event) => hintBytes(event).fill(0))],
    ['a PCR', ({ pcrs }) => pcrs.get(4)?.fill(0)],
    ['another PCR', ({ pcrs }) => (pcrs as Map<number, Buffer>).set(5, Buffer.alloc(32))],
    ['the PCRs', ({ pcrs }) => (pcrs as Map<number, Buffer>).clear()],
  ];
  for (const [name, spoil] of spoils) {
    const { verify } = counting();
    const seen: unknown[] = [];
    const policy: MeasuredBootPolicy = {
      name: 'rules',
      pcrs: [4],
      decodeReference: good,
      evaluate(log) {
        const events = log.events.map((event) => [event.digest, hintBytes(event).toString()]);
        seen.push([events, pcrValues(log)]);
        spoil(log);
        return [];
      },
    };
    for (let round = 0; round < 3; round++) judgeBoot(boot('a'), policy, verify);
    assert.deepEqual(seen[1], seen[0], name);
    assert.deepEqual(seen[2], seen[0], name);
  }
});
