import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import type { MeasuredEvent } from '@keylime/event-log/coverage';
import type { EventToEncode } from '@keylime/event-log/encode';
import fc from 'fast-check';
import { bootOf, eventsOf, referenceOf, vectorLog, verifiedBy } from './internal/samples.ts';
import type { BootViolation } from './policy.ts';
import { strict } from './strict.ts';

const LOG = vectorLog('debian12-secureboot-vm');
const EVENTS = eventsOf(LOG);
const BOOT = verifiedBy(LOG);
const decoded = strict.decodeReference(referenceOf(BOOT));
assert(decoded.ok);
const reference = decoded.value;

const judge = (events: readonly EventToEncode[]): readonly BootViolation[] =>
  strict.evaluate(bootOf(events), reference);

/** Any event of the log: its place among the others, and how the log has it. */
const place = fc.nat({ max: EVENTS.length - 1 });
const original = (at: number): EventToEncode => {
  const event = EVENTS[at];
  assert(event);
  return event;
};
const measured = (at: number): MeasuredEvent => {
  const event = BOOT.events[at];
  assert(event);
  return event;
};

const isListed = ({ pcr, digest: hex }: MeasuredEvent): boolean =>
  (reference.digests.get(pcr) ?? []).some((digests) => digests.get('sha256') === hex);

const flipped = (data: Uint8Array, seed: number): Buffer => {
  const changed = Buffer.from(data);
  const at = seed % data.length;
  changed[at] = (changed[at] ?? 0) ^ (1 + ((seed >> 8) % 255));
  return changed;
};

test('no boot is accepted that measured something else in place of any event', () => {
  fc.assert(
    fc.property(place, (at) => {
      const digests = new Map([['sha256' as const, randomBytes(32)]]);
      assert.notDeepEqual(judge(EVENTS.with(at, { ...original(at), digests })), []);
    }),
    { numRuns: 150 },
  );
});

test('no boot is accepted that measured other data in place of any event, which is logged with it', () => {
  fc.assert(
    fc.property(place, fc.nat(), (at, seed) => {
      const { pcr, type, data } = original(at);
      // A later SbatLevel is a better one; sbat-level.test.ts has its order.
      if (measured(at).index === 30) return;
      assert.notDeepEqual(judge(EVENTS.with(at, { pcr, type, data: flipped(data, seed) })), []);
    }),
    { numRuns: 150 },
  );
});

test('no log is accepted whose data is not what was measured, where the digest covers it and nobody lists it', () => {
  const covered = BOOT.events.flatMap((event, at) => (event.coverage === 'none' || isListed(event) ? [] : [at]));
  assert.ok(covered.length > 20);
  fc.assert(
    fc.property(fc.constantFrom(...covered), fc.nat(), (at, seed) => {
      const event = original(at);
      // The value of a boot variable is covered, its name is not; the words before a text of GRUB are not either.
      const start = measured(at).coverage === 'whole' ? 0 : Buffer.from(event.data).lastIndexOf(': ') + 2;
      const data = Buffer.concat([event.data.subarray(0, start), flipped(event.data.subarray(start), seed)]);
      if (measured(at).coverage === 'text' && data.subarray(0, -1).equals(event.data.subarray(0, -1))) return;
      assert.notDeepEqual(judge(EVENTS.with(at, { ...event, data })), []);
    }),
    { numRuns: 150 },
  );
});

test('what no digest covers changes nothing about what was measured: at worst the log is refused', () => {
  fc.assert(
    fc.property(place, fc.uint8Array({ minLength: 1, maxLength: 40 }), (at, data) => {
      const boot = bootOf(EVENTS.with(at, { ...original(at), data }));
      assert.deepEqual(
        boot.events.map((event) => event.digest),
        BOOT.events.map((event) => event.digest),
      );
      strict.evaluate(boot, reference);
    }),
    { numRuns: 100 },
  );
});

test('no boot is accepted without an event that nobody lists, or with one more of it', () => {
  const actions = ['Calling EFI Application from Boot Option', 'Returning from EFI Application from Boot Option'];
  const actionDigests = actions.map((text) => digest('sha256', Buffer.from(text)).toString('hex'));
  for (const [at, event] of BOOT.events.entries()) {
    // The firmware may try several boot options, and the kernel was started twice.
    if (isListed(event) || actionDigests.includes(event.digest)) continue;
    const isImage = event.type === 'EV_EFI_BOOT_SERVICES_APPLICATION';
    const isOptional = isImage ? event.index === 44 : event.pcr === 7 && [25, 30, 32].includes(event.index);
    const isTrustSwitch = event.index === 31;
    if (!isOptional && !isTrustSwitch)
      assert.notDeepEqual(judge(EVENTS.toSpliced(at, 1)), [], `without ${event.index}`);
    const isRepeatable = isImage || event.pcr === 9 || [25, 30, 32, 50, 49].includes(event.index);
    if (!isRepeatable) assert.notDeepEqual(judge(EVENTS.toSpliced(at, 0, original(at))), [], `twice ${event.index}`);
  }
});

test('no boot is accepted whose firmware, images or lists of shim were measured in another order', () => {
  for (const [first, second] of [
    [2, 3],
    [27, 33],
    [33, 43],
    [28, 29],
    [5, 9],
    [49, 50],
  ] as const) {
    const swapped = EVENTS.with(first - 1, original(second - 1)).with(second - 1, original(first - 1));
    const orders = [EVENTS, swapped].map((events) => events.map(({ pcr }) => pcr).join());
    assert.equal(orders[0], orders[1], `${first} and ${second} are of one PCR`);
    assert.notDeepEqual(judge(swapped), [], `${first} and ${second}`);
  }
});
