import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { replayBank } from '@keylime/event-log/replay';
import type { Lies, LyingAgent } from '@keylime/testing/lying-agent';
import { type BootedMachine, bootOf, GOOD_LOG, logOf, MACHINE_ID, startBootedMachine } from './boot-harness.ts';
import {
  type AttackedVerifier,
  assertFails,
  GET_QUOTE,
  INVALID_QUOTE,
  startAttackedVerifier,
} from './verifier-harness.ts';

/*
 * Root on an enrolled machine has another log than the one that was measured, or none: logs that do not lead to the PCRs.
 * Any policy will do to catch it: here it is accept-all, which wants nothing but that.
 */
let verifier: AttackedVerifier;
let machine: BootedMachine;
before(async () => {
  verifier = await startAttackedVerifier({ process: true, settings: { max_retries: '100', retry_interval: '0.1' } });
  machine = await startBootedMachine(verifier);
  await machine.boot(GOOD_LOG);
});
after(async () => {
  await machine?.stop();
  await verifier?.stop();
});

const ENROLMENT = { runtime_policy: '', mb_policy: '{"any": 1}', tpm_policy: '{"mask": "0x0"}' };
const remove = (id: string) => verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${id}` });
const passes = () => verifier.until(MACHINE_ID, ({ attestation_count }) => attestation_count > 0);

/** The machine is enrolled anew, passes, and then serves another log. */
async function caught(served: Uint8Array, event: string, message: RegExp): Promise<void> {
  machine.serve(GOOD_LOG);
  await remove(MACHINE_ID);
  await verifier.enrol(machine, ENROLMENT);
  await passes();
  machine.serve(served);
  const status = await verifier.until(MACHINE_ID, ({ operational_state }) => operational_state !== GET_QUOTE);
  assert.deepEqual([status.operational_state, status.last_event_id], [INVALID_QUOTE, event]);
  assert.match(String(status.last_failures[0]?.context.message), message);
}

const EVENTS = bootOf();
const without = (is: (event: EventToEncode) => boolean) => logOf(EVENTS.filter((event) => !is(event)));
const mismatch = (pcr: number) => [`measured_boot.invalid_pcr_${pcr}`, /does not lead to the quoted value/] as const;
const readable =
  (text: string) =>
  ({ event }: { event: EventToEncode }) =>
    Buffer.from(event.data).includes(text);

for (const [name, log, ...expected] of [
  ['no log', Buffer.alloc(0), 'pcr_validation.unused_pcr_0', /no boot event log/],
  ['PCR 7 left out of the log', without(({ pcr }) => pcr === 7), ...mismatch(7)],
  ['one event left out', logOf(EVENTS.filter((event) => !readable('MokListX')({ event }))), ...mismatch(14)],
  ['two events of a PCR in the other order', logOf(swapped(EVENTS, 7)), ...mismatch(7)],
  [
    'events of one PCR labelled as of another',
    logOf(EVENTS.map((e) => (e.pcr === 8 ? { ...e, pcr: 9 } : e))),
    ...mismatch(8),
  ],
  [
    'another event at the end',
    logOf([...EVENTS, { pcr: 9, type: 'EV_IPL', data: Buffer.from('/boot/x\0') }]),
    ...mismatch(9),
  ],
  ['another startup locality', logOf([locality(3), ...EVENTS]), ...mismatch(0)],
  [
    'a log of a bank that is not quoted',
    encodeEventLog(['sha1'], EVENTS),
    'measured_boot.parser.invalid_pcrs_hashes',
    /no digests of bank sha256/,
  ],
  ['a log cut short', GOOD_LOG.subarray(0, -7), 'measured_boot.parser.tpm2_eventlog.error', /cannot be read/],
  ['bytes that are no log', Buffer.alloc(4096, 0xa5), 'measured_boot.parser.tpm2_eventlog.error', /cannot be read/],
  [
    'a log of more events than any boot has',
    logOf(Array.from({ length: 20_000 }, () => ({ pcr: 9, type: 'EV_IPL', data: Buffer.alloc(1) }) as const)),
    'measured_boot.parser.tpm2_eventlog.error',
    /too_many_events/,
  ],
] as const) {
  test(`[MUST] caught: ${name}`, async () => {
    await caught(log, expected[0], expected[1]);
  });
}

test('[MUST] a machine that boots another log than it serves is caught after the reboot, as the first thing', async () => {
  machine.serve(GOOD_LOG);
  await remove(MACHINE_ID);
  await verifier.enrol(machine, ENROLMENT);
  await passes();
  await machine.boot(logOf(bootOf({ kernelCommandLine: '/boot/vmlinuz init=/bin/sh' })), GOOD_LOG);
  const { last_event_id, last_failures } = await verifier.until(
    MACHINE_ID,
    ({ operational_state }) => operational_state !== GET_QUOTE,
  );
  assert.equal(last_event_id, 'measured_boot.invalid_pcr_8');
  const failed = last_failures.map(({ event_id }) => event_id);
  assert.deepEqual(failed, ['measured_boot.invalid_pcr_8', 'measured_boot.invalid_pcr_9'], 'every PCR is told');
  const line = `For PCR 9 and hash sha256 the boot event log has value '[0-9a-f]{64}' but the agent ${MACHINE_ID} returned '`;
  assert.match(verifier.log(), new RegExp(line), '[compat] what suites of the field look for');
});

test('a machine that is started again in good order passes again, its new boot judged', async () => {
  await machine.boot(GOOD_LOG);
  await remove(MACHINE_ID);
  await verifier.enrol(machine, ENROLMENT);
  const before = await passes();
  await machine.boot(GOOD_LOG);
  const status = await verifier.until(
    MACHINE_ID,
    ({ attestation_count, unreachable_rounds }) =>
      unreachable_rounds === 0 && attestation_count > before.attestation_count + 2,
  );
  assert.equal(status.attestation_status, 'PASS');
});

/** What a machine in good order holds, for an attacker who can have any PCRs quoted. */
const PCRS = replayBank(decodeEventLog(GOOD_LOG), 'sha256');
const LOG_TEXT = GOOD_LOG.toString('base64');

async function lyingCaught(
  id: string,
  lies: (agent: LyingAgent) => Lies,
  expected: { readonly event: string; readonly message: RegExp },
): Promise<void> {
  const agent = await verifier.agent(id);
  agent.lie({
    quote: (truth) => agent.ak.quote({ ...truth, pcrs: new Map([...(truth.pcrs ?? []), ...PCRS]) }),
    results: (truth) => ({ ...truth, mb_measurement_list: LOG_TEXT }),
    ...lies(agent),
  });
  await verifier.enrol(agent, ENROLMENT);
  await assertFails(verifier, { ...agent, truthful: () => 0 }, expected);
}

for (const [name, expected, lies] of [
  [
    'a quote without PCRs 0 to 7',
    { event: 'qoute_validation.quote_validation', message: /PCRs 0,1,2.* were asked for, quoted were 8,9,/ },
    ({ ak }: LyingAgent): Lies => ({ quote: (truth) => ak.quote({ ...truth, mask: truth.mask & ~0xff, pcrs: PCRS }) }),
  ],
  [
    'PCRs of a boot quoted as zeros',
    { event: 'measured_boot.invalid_pcr_0', message: /PCR 0/ },
    ({ ak }: LyingAgent): Lies => ({ quote: (truth) => ak.quote(truth) }),
  ],
  [
    'a log that is not base64',
    { event: 'measured_boot.parser.log.base64decode', message: /not base64/ },
    (): Lies => ({ results: (truth) => ({ ...truth, mb_measurement_list: `${LOG_TEXT.slice(0, -4)}@@@@` }) }),
  ],
  [
    'a log that is base64 in another alphabet',
    { event: 'measured_boot.parser.log.base64decode', message: /not base64/ },
    (): Lies => ({ results: (truth) => ({ ...truth, mb_measurement_list: GOOD_LOG.toString('base64url') }) }),
  ],
  [
    'a log that is no text',
    { event: 'qoute_validation.invalid_data', message: /mb_measurement_list/ },
    (): Lies => ({ results: (truth) => ({ ...truth, mb_measurement_list: [LOG_TEXT] }) }),
  ],
  [
    'a log that is null',
    { event: 'pcr_validation.unused_pcr_0', message: /no boot event log/ },
    (): Lies => ({ results: (truth) => ({ ...truth, mb_measurement_list: null }) }),
  ],
] as const) {
  test(`[MUST] caught: ${name}`, async () => {
    await lyingCaught(name.replaceAll(' ', '-'), lies, expected);
  });
}

test('[MUST] caught: a log of 64 MB, and others are attested meanwhile', async () => {
  const [bomb, neighbour] = [await verifier.agent('bomb'), await verifier.agent('neighbour')];
  const text = Buffer.alloc(64 * 1024 * 1024).toString('base64');
  bomb.lie({ results: (truth) => ({ ...truth, mb_measurement_list: text }) });
  await verifier.enrol(neighbour);
  const { attestation_count: before } = await verifier.until('neighbour', (status) => status.attestation_count > 0);
  await verifier.enrol(bomb, ENROLMENT);
  const { last_event_id } = await verifier.until('bomb', ({ attestation_status }) => attestation_status === 'FAIL');
  assert.equal(last_event_id, 'measured_boot.parser.tpm2_eventlog.error');
  const after = await verifier.status('neighbour');
  assert.ok(after.attestation_status === 'PASS' && after.attestation_count > before);
});

/** The first two events of a PCR exchanged. */
function swapped(events: readonly EventToEncode[], pcr: number): readonly EventToEncode[] {
  const [first = -1, second = -1] = events.flatMap((event, i) => (event.pcr === pcr ? [i] : []));
  return events.map((event, i) => (i === first ? events[second] : i === second ? events[first] : event) ?? event);
}

function locality(value: number): EventToEncode {
  return {
    pcr: 0,
    type: 'EV_NO_ACTION',
    data: Buffer.from(`StartupLocality\0${String.fromCharCode(value)}`, 'latin1'),
  };
}
