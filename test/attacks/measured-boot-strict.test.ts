import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { EventToEncode } from '@keylime/event-log/encode';
import { encodeVariable } from '@keylime/event-log/encode-data';
import {
  type BootedMachine,
  bootOf,
  GOOD_LOG,
  logOf,
  MACHINE_ID,
  startBootedMachine,
  strictReference,
} from './boot-harness.ts';
import { type AgentStatus, type AttackedVerifier, INVALID_QUOTE, startAttackedVerifier } from './verifier-harness.ts';

/*
 * Root changes what a machine boots, and the log so that it looks well: the log leads to the PCRs, and what it says is
 * partly a lie. `strict` believes what digests cover. The machine is a software TPM with our agent as a process.
 */
let verifier: AttackedVerifier;
let machine: BootedMachine;
before(async () => {
  const settings = { max_retries: '100', retry_interval: '0.1', measured_boot_policy_name: 'strict' };
  verifier = await startAttackedVerifier({ process: true, settings });
  machine = await startBootedMachine(verifier);
});
after(async () => {
  await machine?.stop();
  await verifier?.stop();
});

const EVENTS = bootOf();
const remove = () => verifier.ask({ method: 'DELETE', path: `/v2.6/agents/${MACHINE_ID}` });
const fails = () => verifier.until(MACHINE_ID, ({ attestation_status }) => attestation_status === 'FAIL');
const passes = (more = 0) => verifier.until(MACHINE_ID, ({ attestation_count }) => attestation_count > more);

async function enrol(changes: Readonly<Record<string, unknown>> = {}): Promise<void> {
  await remove();
  const judged = { mb_policy: strictReference(), runtime_policy: '', tpm_policy: '{"mask": "0x0"}' };
  await verifier.enrol(machine, { ...judged, ...changes });
}

/** What the first failure says: reason, event and what was found. */
function firstReason({ last_failures }: AgentStatus) {
  const context = (last_failures[0]?.context ?? {}) as { readonly [key: string]: unknown };
  return { reason: context.reason, index: context.index, pcr: context.pcr, got: context.got };
}

/** Index in a log of the first event that is so. */
const indexOf = (events: readonly EventToEncode[], is: (event: EventToEncode) => boolean) => events.findIndex(is) + 1;

const says = (text: string) => (event: EventToEncode) => Buffer.from(event.data).includes(text);
const isSecureBoot = (event: EventToEncode) =>
  event.pcr === 7 && Buffer.from(event.data).includes(Buffer.from('SecureBoot', 'utf16le'));
const isCommandLine = says('kernel_cmdline: ');
const isInitrd = (event: EventToEncode) => event.pcr === 9 && says('/boot/initrd.img\0')(event);

test('a machine in good order passes', async () => {
  await machine.boot(GOOD_LOG);
  await enrol();
  assert.equal((await passes(3)).attestation_status, 'PASS');
});

const EVIL_LINE = '/boot/vmlinuz root=LABEL=ROOT rw init=/bin/sh';
const evilLine = bootOf({ kernelCommandLine: EVIL_LINE });
const goodLineEvent = EVENTS.find(isCommandLine);
const evilInitrd = bootOf({ initrd: Buffer.from('an initrd with a backdoor') });
const goodInitrd = EVENTS.find(isInitrd);

const late: EventToEncode = {
  pcr: 7,
  type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
  data: encodeVariable('SecureBoot', Buffer.of(1)),
};
const [shim, grub] = EVENTS.filter(({ type }) => type === 'EV_EFI_BOOT_SERVICES_APPLICATION');

const firmware = EVENTS.find(({ type }) => type === 'EV_EFI_PLATFORM_FIRMWARE_BLOB') ?? assert.fail('no firmware');
const firmwareAgain: EventToEncode = { ...firmware };
const relabelled: EventToEncode = {
  pcr: 8,
  type: 'EV_IPL',
  data: Buffer.from(`grub_cmd: ${EVIL_LINE}\0`),
  measured: Buffer.from(EVIL_LINE),
};
const ERROR = Buffer.of(1, 0, 0, 0);
const errorAsOrder: EventToEncode = {
  pcr: 1,
  type: 'EV_EFI_VARIABLE_BOOT',
  data: encodeVariable('BootOrder', ERROR),
  measured: ERROR,
};

type Attack = readonly [
  name: string,
  events: readonly EventToEncode[],
  reason: RegExp,
  wrong: (event: EventToEncode) => boolean,
];

const ATTACKS: readonly Attack[] = [
  ['Secure Boot off', bootOf({ secureBoot: false }), /secure_boot_off/, isSecureBoot],
  [
    'hole 8: Secure Boot off, and the log says on',
    bootOf({ secureBoot: false }).map((event) =>
      isSecureBoot(event)
        ? { ...event, data: encodeVariable('SecureBoot', Buffer.of(1)), measured: event.data }
        : event,
    ),
    /event_data_not_measured/,
    isSecureBoot,
  ],
  ['another command line', evilLine, /kernel_cmdline_unexpected/, isCommandLine],
  [
    'hole 8: another command line, and the log shows the good one',
    evilLine.map((event) =>
      isCommandLine(event) && goodLineEvent !== undefined
        ? { ...goodLineEvent, measured: Buffer.from(EVIL_LINE) }
        : event,
    ),
    /event_data_not_measured/,
    isCommandLine,
  ],
  ['another initrd', evilInitrd, /initrd_unexpected/, isInitrd],
  [
    'hole 8: another initrd under a name of GRUB, and the good one extended after the boot',
    [
      ...evilInitrd.map((event) =>
        isInitrd(event) ? { ...event, data: Buffer.from('/boot/grub/font.pf2\0') } : event,
      ),
      ...(goodInitrd === undefined ? [] : [goodInitrd]),
    ],
    /file_unexpected/,
    says('/boot/grub/font.pf2'),
  ],
  [
    'a variable that decides Secure Boot after the separator of PCR 7',
    [...EVENTS, late],
    /variable_after_separator/,
    (event) => event === late,
  ],
  [
    'firmware that is known, measured again behind the separator of PCR 0',
    [...EVENTS, firmwareAgain],
    /event_after_separator/,
    (event) => event === firmwareAgain,
  ],
  [
    'the events of one PCR measured into another',
    EVENTS.map((event) => (event.pcr === 14 ? { ...event, pcr: 12 } : event)),
    /event_unexpected/,
    () => false,
  ],
  [
    'another command line, called a command, and the good one extended after the boot',
    [
      ...evilLine.map((event) => (isCommandLine(event) ? relabelled : event)),
      ...(goodLineEvent === undefined ? [] : [goodLineEvent]),
    ],
    /event_unexpected/,
    (event) => event === relabelled,
  ],
  [
    'a firmware that tells an error, called a BootOrder, and the separator extended after the boot',
    [
      ...EVENTS.map((event) => (event.pcr === 1 && event.type === 'EV_SEPARATOR' ? errorAsOrder : event)),
      { pcr: 1, type: 'EV_SEPARATOR', data: Buffer.alloc(4) },
    ],
    /separator_tells_error/,
    (event) => event === errorAsOrder,
  ],
  [
    'the boot loader started before shim',
    EVENTS.map((event) => (event === shim ? grub : event === grub ? shim : event) ?? event),
    /image_unexpected/,
    (event) => event === grub,
  ],
  ['a boot without any event of PCR 7', EVENTS.filter(({ pcr }) => pcr !== 7), /separator_missing/, () => false],
];

for (const [name, events, reason, wrong] of ATTACKS) {
  test(`[MUST] caught: ${name}`, async () => {
    await machine.boot(logOf(events));
    await enrol();
    const status = await fails();
    assert.deepEqual([status.operational_state, status.last_event_id], [INVALID_QUOTE, 'measured_boot.policy_strict']);
    assert.equal(status.attestation_count, 0);
    const found = status.last_failures.map(({ context }) => context as { readonly [key: string]: unknown });
    const told = found.find(({ reason: one }) => reason.test(String(one)));
    assert.ok(told, JSON.stringify(found));
    const index = indexOf(events, wrong);
    if (index > 0) assert.equal(told.index, index, JSON.stringify(found));
  });
}

test('[MUST] hole 9: a boot into another system after a first success is caught, with what was expected and found', async () => {
  await machine.boot(GOOD_LOG);
  await enrol();
  const { attestation_count: passed } = await passes(2);
  await machine.boot(logOf(evilLine));
  const status = await fails();
  assert.equal(status.last_event_id, 'measured_boot.policy_strict');
  assert.ok(status.attestation_count >= passed);
  const index = indexOf(evilLine, isCommandLine);
  assert.deepEqual(firstReason(status), { reason: 'kernel_cmdline_unexpected', index, pcr: 8, got: EVIL_LINE });
});

test('[MUST] a boot with another initrd after a first success is caught, with what was expected and found', async () => {
  await machine.boot(GOOD_LOG);
  await enrol();
  await passes(2);
  await machine.boot(logOf(evilInitrd));
  const status = await fails();
  const index = indexOf(evilInitrd, isInitrd);
  const { reason, index: found, pcr, got } = firstReason(status);
  assert.deepEqual([reason, found, pcr], ['initrd_unexpected', index, 9]);
  assert.match(String(got), /^sha256 [0-9a-f]{64} \(\/boot\/initrd\.img\)$/);
});

test('[MUST] the boot that a machine is in is judged again when its reference state is replaced, and when the verifier restarts', async () => {
  await machine.boot(GOOD_LOG);
  await remove();
  const policy = (mb_policy: string, method: 'POST' | 'PUT') =>
    verifier.ask({ method, path: '/v2.6/mbpolicies/fleet', json: { mb_policy } });
  assert.equal((await policy(strictReference(), 'POST')).code, 201);
  await enrol({ mb_policy: null, mb_policy_name: 'fleet' });
  const { attestation_count: first } = await passes(2);
  await verifier.kill();
  await verifier.start();
  await passes(first + 2);
  const tightened = strictReference({ sbat_level: 'sbat,1,2026010100\nshim,9\ngrub,9\n' });
  assert.equal((await policy(tightened, 'PUT')).code, 201);
  const status = await fails();
  assert.equal(status.last_event_id, 'measured_boot.policy_strict');
  await remove();
  assert.equal((await verifier.ask({ method: 'DELETE', path: '/v2.6/mbpolicies/fleet' })).code, 204);
});

test('a real machine passes by the reference state that keylime-policy makes of its log, and not with Secure Boot off', async () => {
  const [secure, insecure] = ['debian12-secureboot-vm', 'debian12-uefi-vm'].map((name) =>
    fileURLToPath(new URL(`../../packages/testing/vectors/${name}/bios.bin`, import.meta.url)),
  );
  assert.ok(secure && insecure);
  const tool = fileURLToPath(new URL('../../packages/policy-tool/bin/keylime_policy.mjs', import.meta.url));
  const create = (...args: readonly string[]) =>
    execFileSync(process.execPath, [tool, 'create', 'measured-boot', ...args], { encoding: 'utf8', stdio: 'pipe' });
  const mb_policy = create('-e', secure);
  await machine.boot(readFileSync(secure));
  await enrol({ mb_policy });
  await passes(2);
  await machine.boot(readFileSync(insecure));
  const status = await fails();
  assert.equal(status.last_event_id, 'measured_boot.policy_strict');
  const reasons = status.last_failures.map(({ context }) => (context as { readonly reason?: string }).reason);
  assert.ok(reasons.includes('secure_boot_off'), reasons.join());
  await enrol({ mb_policy: create('-i', '-e', insecure) });
  await passes(2);
});

test('rules that a reference state names judge it, not those of the settings', async () => {
  await enrol({ mb_policy_rules: 'reject-all' });
  assert.equal((await fails()).last_event_id, 'measured_boot.policy_reject-all');
  await enrol({ mb_policy: '{"anything": 1}', mb_policy_rules: 'accept-all' });
  await passes(1);
});

test('a reference state that strict does not understand is refused at upload, with the place', async () => {
  const json = { mb_policy: strictReference({ dma_protection: 'sometimes' as 'optional' }) };
  const { code, status } = await verifier.ask({ method: 'POST', path: '/v2.6/mbpolicies/odd', json });
  assert.equal(code, 400);
  assert.match(status, /^mb_policy cannot be used: dma_protection: /);
});
