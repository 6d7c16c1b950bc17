import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { encodeSignatureList, encodeUtf16, encodeVariable } from '@keylime/event-log/encode-data';
import { SIGNATURE_TYPES, VARIABLE_GUIDS } from '@keylime/event-log/guid';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import {
  appending,
  bootOf,
  changed,
  eventsOf,
  file,
  grub,
  image,
  inserting,
  LINE,
  measured,
  referenceOf,
  replacing,
  vectorLog,
  verifiedBy,
  without,
} from './internal/samples.ts';
import type { BootViolation } from './policy.ts';
import type { StrictReferenceJson } from './reference-json.ts';
import { strict } from './strict.ts';

const SECURE = verifiedBy(vectorLog('debian12-secureboot-vm'));
const INSECURE = verifiedBy(vectorLog('debian12-uefi-vm'));
const REFERENCE = referenceOf(SECURE);

function judge(boot: VerifiedEventLog, reference: StrictReferenceJson = REFERENCE): readonly BootViolation[] {
  const decoded = strict.decodeReference(JSON.parse(JSON.stringify(reference)));
  assert(decoded.ok, JSON.stringify(decoded));
  return strict.evaluate(boot, decoded.value);
}

const reasons = (boot: VerifiedEventLog, reference?: StrictReferenceJson): readonly string[] =>
  judge(boot, reference).map(({ reason }) => reason);

test('a boot is accepted by the reference state that was made from its log, in every bank but SHA-1', () => {
  assert.deepEqual(judge(SECURE), []);
  const sha384 = verifiedBy(vectorLog('debian12-secureboot-vm'), 'sha384');
  assert.deepEqual(judge(sha384, referenceOf(sha384)), []);
  const sha1 = verifiedBy(vectorLog('debian12-secureboot-vm'), 'sha1');
  assert.deepEqual(judge(sha1), [{ reason: 'bank_not_in_reference', expected: 'sha256', found: 'sha1' }]);
  assert.deepEqual(judge(sha384), [{ reason: 'bank_not_in_reference', expected: 'sha256', found: 'sha384' }]);
});

test('a machine without Secure Boot is refused unless its reference state says that Secure Boot is off', () => {
  const reference = referenceOf(INSECURE);
  assert.equal(reference.has_secureboot, false);
  assert.deepEqual(judge(INSECURE, reference), []);
  const { has_secureboot: _, ...silent } = reference;
  assert.deepEqual(judge(INSECURE, silent)[0], {
    ...{ reason: 'secure_boot_off', event: 4, pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG' },
    ...{ expected: 'on', found: 'off' },
  });
  assert.ok(reasons(SECURE, { ...REFERENCE, has_secureboot: false }).includes('secure_boot_on'));
});

test('another command line is refused, with its event, what was expected and what was found', () => {
  const other = `${LINE} init=/bin/sh`;
  const boot = changed((events) =>
    events.with(44, grub('kernel_cmdline: ', other)).with(40, grub('grub_cmd: ', `linux ${other}`)),
  );
  const found = judge(boot);
  assert.deepEqual(
    found.map(({ reason, event }) => [reason, event]),
    [
      ['kernel_cmdline_unexpected', 45],
      ['event_unexpected', 41],
    ],
  );
  assert.deepEqual(found.slice(0, 1), [
    {
      ...{ reason: 'kernel_cmdline_unexpected', event: 45, pcr: 8, type: 'EV_IPL' },
      ...{ expected: REFERENCE.kernels[0]?.kernel_cmdline, found: other },
    },
  ]);
});

test('another initrd is refused, with its event, what was expected and what was found', () => {
  assert.deepEqual(judge(replacing(47, file('/boot/initrd.img', 'another'))), [
    {
      ...{ reason: 'initrd_unexpected', event: 47, pcr: 9, type: 'EV_IPL' },
      expected: '44780dfc5a3102a84f0a30d9d5b46266df81d6cfd921562219229822522aee56',
      found: `sha256 ${digest('sha256', Buffer.from('another')).toString('hex')} (/boot/initrd.img)`,
    },
  ]);
});

test('attack: SecureBoot was off, and the log says on', () => {
  const off = encodeVariable('SecureBoot', Buffer.of(0));
  const on = encodeVariable('SecureBoot', Buffer.of(1));
  const found = judge(replacing(4, measured(7, 'EV_EFI_VARIABLE_DRIVER_CONFIG', on, off)));
  assert.deepEqual(
    found.map(({ reason, event }) => [reason, event]),
    [
      ['event_data_not_measured', 4],
      ['variable_missing', undefined],
    ],
  );
});

test('attack: the log has the good command line with the digest of another', () => {
  const forged = measured(8, 'EV_IPL', Buffer.from(`kernel_cmdline: ${LINE}\0`), Buffer.from(`${LINE} init=/bin/sh`));
  assert.deepEqual(reasons(replacing(45, forged)), ['event_data_not_measured', 'kernel_cmdline_missing']);
});

test('attack: the evil command line is called a command, and the good one is extended after the boot', () => {
  const boot = changed((events) => [
    ...events.toSpliced(44, 1, grub('grub_cmd: ', `${LINE} init=/bin/sh`)),
    grub('kernel_cmdline: ', LINE),
  ]);
  assert.deepEqual(
    judge(boot).map(({ reason, event }) => [reason, event]),
    [
      ['kernel_cmdline_without_command', 51],
      ['event_unexpected', 45],
    ],
  );
});

test('attack: the command line of the boot reads like a command that is known', () => {
  // GRUB had a kernel in a file called `set`, and the good command line was typed as a command.
  const boot = changed((events, at) => [
    ...events.slice(0, 40),
    ...[grub('grub_cmd: ', LINE), at(42), at(43), at(44), at(39)],
    ...events.slice(45),
  ]);
  const relabelled = changed((events, at) => [
    ...events.slice(0, 40),
    ...[grub('kernel_cmdline: ', LINE), at(42), at(43), at(44), at(39)],
    ...events.slice(45),
  ]);
  assert.deepEqual(reasons(boot), ['kernel_cmdline_missing', 'event_unexpected']);
  assert.deepEqual(reasons(relabelled), ['kernel_cmdline_without_command']);
});

test('attack: a second command line is extended after the boot', () => {
  const found = judge(
    changed((events) => [
      ...events.toSpliced(44, 1, grub('kernel_cmdline: ', `${LINE} init=/bin/sh`)),
      grub('kernel_cmdline: ', LINE),
    ]),
  );
  assert.deepEqual(
    found.map(({ reason, event }) => [reason, event]),
    [
      ['kernel_cmdline_unexpected', 45],
      ['kernel_cmdline_without_command', 45],
      ['kernel_cmdline_without_command', 51],
    ],
  );
});

test('attack: the evil initrd has the name of a file of GRUB, and the good one is extended after the boot', () => {
  for (const path of ['/boot/grub2/x', '/loader/entries/x', '/boot/vmlinuz']) {
    const boot = changed((events, at) => [...events.toSpliced(46, 1, file(path, 'evil')), at(47)]);
    const [first, ...others] = judge(boot);
    assert.deepEqual([first?.event, first?.pcr, others], [47, 9, []]);
    assert.match(first?.reason ?? '', /^(file|vmlinuz)_unexpected$/);
  }
});

test('attack: a log without any event of a PCR, which leads to PCRs that nothing extended', () => {
  for (const [pcr, expected] of [
    [0, ['separator_missing', 'firmware_version_missing', 'firmware_missing']],
    [1, ['separator_missing']],
    [2, ['separator_missing']],
    [4, ['separator_missing', 'image_missing', 'image_missing', 'image_missing', 'image_missing']],
    [5, ['separator_missing', 'exit_boot_services_missing']],
    [7, ['separator_missing', ...Array.from({ length: 5 }, () => 'variable_missing'), 'authority_missing']],
    [8, ['kernel_cmdline_missing']],
    [9, ['vmlinuz_missing', 'initrd_missing']],
    [14, ['mok_list_missing', 'mok_list_x_missing']],
  ] as const) {
    const boot = changed((events) => events.filter((event) => event.pcr !== pcr));
    assert.deepEqual(reasons(boot), expected, `PCR ${pcr}`);
  }
});

test('attack: images were started in another order, and one of them twice', () => {
  const swapped = changed((events, at) => events.with(26, at(33)).with(32, at(27)));
  assert.deepEqual(reasons(swapped), ['image_unexpected', 'image_unexpected', 'image_missing']);
  const again = appending(image('evil'));
  assert.deepEqual(
    judge(again).map(({ reason, event }) => [reason, event]),
    [['image_unexpected', 51]],
  );
});

test('attack: another shim, boot loader or kernel', () => {
  for (const index of [27, 33, 43]) {
    const [first] = judge(replacing(index, image('evil')));
    assert.equal(first?.reason, 'image_unexpected');
    assert.equal(first.event, index);
    assert.equal(first.expected, SECURE.events.find((event) => event.index === index)?.digest);
  }
});

test('attack: an image that was started before the boot loader', () => {
  assert.deepEqual(
    judge(inserting(15, image('evil'))).map(({ reason, event }) => [reason, event]),
    [['image_unexpected', 15]],
  );
});

test('attack: events after the separators of the PCRs that the firmware alone extends', () => {
  for (const pcr of [0, 3, 6]) {
    const event = measured(pcr, 'EV_EFI_ACTION', Buffer.from('x'));
    assert.deepEqual(
      judge(appending(event)).map(({ reason, event: index }) => [reason, index]),
      [['event_after_separator', 51]],
    );
  }
  const listed = REFERENCE.scrtm_and_bios[0]?.platform_firmware[0];
  assert(listed);
  const digests = { ...REFERENCE.digests, 0: [listed] };
  const blob = eventsOf(vectorLog('debian12-secureboot-vm'))[1];
  assert(blob);
  assert.deepEqual(reasons(appending(blob), { ...REFERENCE, digests }), ['event_after_separator']);
});

test('attack: separators that are missing, repeated, of another type, or tell an error', () => {
  const separator = (pcr: number, ...bytes: readonly number[]) => measured(pcr, 'EV_SEPARATOR', Buffer.from(bytes));
  for (const [index, pcr] of [
    [16, 0],
    [17, 1],
    [18, 2],
    [19, 3],
    [20, 4],
    [21, 5],
    [22, 6],
    [9, 7],
  ] as const) {
    assert.ok(reasons(without(index)).includes('separator_missing'), `PCR ${pcr}`);
    assert.ok(reasons(inserting(index, separator(pcr, 0, 0, 0, 0))).includes('separator_repeated'));
    assert.ok(reasons(inserting(index, separator(pcr, 1, 0, 0, 0))).includes('separator_tells_error'));
    assert.ok(reasons(replacing(index, separator(pcr, 255, 255, 255, 255))).includes('separator_tells_error'));
    const hidden = measured(pcr, 'EV_NONHOST_INFO', Buffer.alloc(4));
    assert.deepEqual(reasons(replacing(index, hidden)), ['separator_of_other_type']);
    const lying = measured(pcr, 'EV_SEPARATOR', Buffer.of(0, 0, 0, 0), Buffer.of(1, 0, 0, 0));
    assert.ok(reasons(replacing(index, lying)).includes('separator_tells_error'));
  }
});

test('a BootOrder with the digest of a separator that tells an error is none, and such a separator is no BootOrder', () => {
  const order = encodeVariable('BootOrder', Buffer.of(1, 0, 0, 0));
  const boot = replacing(10, measured(1, 'EV_EFI_VARIABLE_BOOT', order, Buffer.of(1, 0, 0, 0)));
  assert.deepEqual(judge(boot, { ...REFERENCE, unlisted: ['boot_variables'] }), []);
  const hidden = replacing(17, measured(1, 'EV_EFI_VARIABLE_BOOT', order, Buffer.of(1, 0, 0, 0)));
  assert.deepEqual(reasons(hidden, { ...REFERENCE, unlisted: ['boot_variables'] }), ['separator_missing']);
});

test('attack: a PCR that is relabelled', () => {
  for (let index = 1; index <= 50; index++) {
    for (const pcr of [0, 4, 7, 8, 9, 12]) {
      const boot = changed((events, at) => events.with(index - 1, { ...at(index), pcr }));
      if (boot.events.some((event) => event.index === index && event.pcr === eventPcr(index))) continue;
      assert.notDeepEqual(judge(boot), [], `event ${index} in PCR ${pcr}`);
    }
  }
});

const eventPcr = (index: number): number | undefined => SECURE.events.find((event) => event.index === index)?.pcr;

test('attack: the log of another system', () => {
  assert.ok(reasons(INSECURE).length > 5);
  assert.ok(reasons(SECURE, referenceOf(INSECURE)).length > 5);
});

test('a platform that is debugged or leaves memory open to devices is refused, whatever its log calls that', () => {
  const debug = Buffer.from('UEFI Debug Mode');
  const open = Buffer.from('DMA Protection Disabled');
  assert.deepEqual(reasons(inserting(9, measured(7, 'EV_EFI_ACTION', debug))), ['uefi_debug_mode']);
  assert.deepEqual(reasons(inserting(22, measured(6, 'EV_NONHOST_INFO', Buffer.of(0), debug))), ['uefi_debug_mode']);
  assert.deepEqual(reasons(inserting(9, measured(7, 'EV_EFI_ACTION', open))), ['dma_protection_disabled']);
  const listed = { ...REFERENCE.digests, 7: [{ sha256: `0x${digest('sha256', open).toString('hex')}` }] };
  const allowing: StrictReferenceJson = { ...REFERENCE, dma_protection: 'optional', digests: listed };
  assert.deepEqual(judge(inserting(9, measured(7, 'EV_EFI_ACTION', open)), allowing), []);
});

test('variables that decide Secure Boot are measured once and before the separator, and each is as expected', () => {
  assert.deepEqual(reasons(changed((events, at) => events.toSpliced(8, 0, at(4)))), ['variable_repeated']);
  assert.deepEqual(reasons(changed((events, at) => [...events.toSpliced(4, 1), at(5)])), ['variable_after_separator']);
  const config = (name: string, value: Uint8Array) =>
    measured(7, 'EV_EFI_VARIABLE_DRIVER_CONFIG', encodeVariable(name, value));
  assert.deepEqual(reasons(replacing(4, config('SecureBoot', Buffer.of(2)))), ['secure_boot_off']);
  assert.deepEqual(reasons(replacing(4, config('SecureBoot', Buffer.of(0)))), ['secure_boot_off']);
  assert.ok(reasons(replacing(4, config('SecureBoot', Buffer.of(1, 1)))).length > 0);
  assert.deepEqual(reasons(replacing(5, config('PK', Buffer.alloc(0)))), ['database_empty']);
  assert.deepEqual(reasons(replacing(5, config('PK', Buffer.alloc(30)))), ['event_data_malformed', 'variable_missing']);
  for (const [index, name] of [
    [5, 'pk'],
    [6, 'kek'],
    [7, 'db'],
  ] as const) {
    const found = judge(SECURE, { ...REFERENCE, [name]: [] })[0];
    assert.deepEqual([found?.reason, found?.event], ['signature_unexpected', index]);
    const open = { ...REFERENCE, [name]: [], database_rules: { [name]: 'superset' as const } };
    assert.deepEqual(judge(SECURE, open), []);
  }
  const more = [...REFERENCE.dbx, { SignatureOwner: '77fa9abd-0359-4d32-bd60-28f4e78f784b', SignatureData: '0x1234' }];
  assert.deepEqual(reasons(SECURE, { ...REFERENCE, dbx: more }), ['signature_missing']);
  assert.deepEqual(judge(SECURE, { ...REFERENCE, dbx: [] }), []);
  const exactly = { ...REFERENCE, dbx: [], database_rules: { dbx: 'exact' as const } };
  assert.deepEqual(reasons(SECURE, exactly), ['signature_unexpected']);
});

test('an entry of a database under a type that does not fit it is refused, though it is listed', () => {
  const [entry] = REFERENCE.dbx;
  assert(entry);
  const hash = Buffer.from(entry.SignatureData.slice(2), 'hex');
  const { imageSecurityDatabase } = VARIABLE_GUIDS;
  for (const type of [SIGNATURE_TYPES.sha1, SIGNATURE_TYPES.x509, 'c3224be1-707a-4677-80b8-4eda1d41927e']) {
    const list = encodeSignatureList(type, entry.SignatureOwner, [hash]);
    const dbx = encodeVariable('dbx', list, { owner: imageSecurityDatabase });
    assert.deepEqual(reasons(replacing(8, measured(7, 'EV_EFI_VARIABLE_DRIVER_CONFIG', dbx))), ['signature_malformed']);
  }
});

test('an authority before the separator has let a driver start, and has to be listed', () => {
  const boot = changed((events, at) => events.toSpliced(8, 0, at(25)));
  assert.deepEqual(reasons(boot), ['event_unexpected']);
  const digests = { ...REFERENCE.digests, 7: [{ sha256: `0x${boot.events[8]?.digest}` }] };
  assert.deepEqual(judge(boot, { ...REFERENCE, digests }), []);
});

test('images may be accepted by who signed them, and then only by those that are named', () => {
  const { authorities = [] } = REFERENCE;
  assert.equal(authorities.length, 2);
  const [kernel] = REFERENCE.kernels;
  assert(kernel);
  const signed = {
    ...REFERENCE,
    authorities,
    kernels: [{ ...kernel, images: ['signed', 'signed', 'signed'] as const }],
  };
  assert.deepEqual(judge(SECURE, signed), []);
  assert.deepEqual(judge(replacing(27, image('a new shim')), signed), []);
  assert.deepEqual(reasons(inserting(15, image('too early')), signed)[0], 'image_before_separator');
  assert.deepEqual(reasons(appending(image('one more')), signed), ['image_unexpected']);
  const found = judge(SECURE, { ...signed, authorities: authorities.slice(0, 1) });
  assert.deepEqual(
    found.map(({ reason, event }) => [reason, event]),
    [['authority_unexpected', 32]],
  );
  assert.ok(reasons(without(25, 32), signed).includes('authority_missing'));
});

test('shim has to demand at least the generations of the reference state', () => {
  const least = (sbat_level: string): readonly string[] => reasons(SECURE, { ...REFERENCE, sbat_level });
  assert.deepEqual(least('sbat,1,2025021800\nshim,4\ngrub,5\n'), []);
  assert.deepEqual(least('sbat,1,2023012900\nshim,2\n'), []);
  assert.deepEqual(least('sbat,1,2025021800\nshim,5\n'), ['sbat_level_too_low']);
  assert.deepEqual(least('sbat,1,2025051000\nshim,4\ngrub,5\n'), ['sbat_level_too_low']);
  assert.deepEqual(least('sbat,1,2025021800\nshim,4\ngrub,5\ngrub.debian,1\n'), ['sbat_level_too_low']);
  assert.deepEqual(reasons(without(30), { ...REFERENCE, sbat_level: 'sbat,1,2023012900\n' }), ['sbat_level_missing']);
});

test('the end of boot services has to be in the log, unless the reference state says otherwise', () => {
  assert.deepEqual(reasons(without(49, 50)), ['exit_boot_services_missing']);
  assert.deepEqual(reasons(without(50)), ['exit_boot_services_missing']);
  assert.deepEqual(judge(without(49, 50), { ...REFERENCE, exit_boot_services: 'optional' }), []);
  const after = appending(measured(5, 'EV_EFI_ACTION', Buffer.from('x')));
  assert.deepEqual(reasons(after), ['event_after_exit_boot_services']);
});

test('what differs between machines may be left out of the reference state, and nothing else is open then', () => {
  const { digests, ...rest } = REFERENCE;
  const { 1: _variables, 5: _gpt, ...listed } = digests ?? {};
  const open: StrictReferenceJson = { ...rest, digests: listed, unlisted: ['boot_variables', 'gpt'] };
  assert.deepEqual(judge(SECURE, open), []);
  const { unlisted: __, ...closed } = open;
  assert.deepEqual(new Set(reasons(SECURE, closed)), new Set(['event_unexpected']));
  const table = measured(1, 'EV_EFI_HANDOFF_TABLES', Buffer.from('x'), Buffer.from('y'));
  assert.deepEqual(reasons(inserting(17, table), open), ['event_unexpected']);
  assert.deepEqual(
    judge(inserting(17, table), { ...open, unlisted: ['boot_variables', 'gpt', 'firmware_tables'] }),
    [],
  );
});

test('a malformed event is refused, unless it is known by its digest', () => {
  const gpt = measured(5, 'EV_EFI_GPT_EVENT', Buffer.from('no table'));
  assert.deepEqual(reasons(replacing(26, gpt)), ['event_data_malformed']);
  const digests = { ...REFERENCE.digests, 5: [{ sha256: `0x${digest('sha256', gpt.data).toString('hex')}` }] };
  assert.deepEqual(judge(replacing(26, gpt), { ...REFERENCE, digests }), []);
});

test('commands of GRUB may be given as patterns', () => {
  const command = grub('grub_cmd: ', 'set boot_success=1');
  const patterns = { ...REFERENCE, grub_commands: ['set boot_success=[01]'] };
  assert.deepEqual(reasons(inserting(40, command)), ['event_unexpected']);
  assert.deepEqual(judge(inserting(40, command), patterns), []);
  assert.deepEqual(reasons(inserting(40, grub('grub_cmd: ', 'set boot_success=10')), patterns), ['event_unexpected']);
  // A command line is none of them, however wide the pattern is.
  const boot = replacing(45, grub('kernel_cmdline: ', `${LINE} init=/bin/sh`));
  assert.ok(reasons(boot, { ...REFERENCE, grub_commands: ['.*'] }).includes('kernel_cmdline_unexpected'));
});

test('a unified kernel image is known by its digest, its sections by theirs, and its command line by its text', () => {
  const sections = ['.linux', '.initrd'].flatMap((name) => [
    measured(11, 'EV_IPL', encodeUtf16(`${name}\0`), Buffer.from(`${name}\0`)),
    measured(11, 'EV_IPL', encodeUtf16(`${name}\0`), Buffer.from(`content of ${name}`)),
  ]);
  const line = encodeUtf16('root=/dev/vda2 quiet\0');
  const events = eventsOf(vectorLog('debian12-uefi-vm')).filter(({ pcr }) => pcr !== 9);
  const boot = (...added: readonly EventToEncode[]) => bootOf([...events, ...added]);
  const tag = Buffer.concat([Buffer.of(0xed, 0x22, 0x3b, 0x8f, 4, 0, 0, 0), Buffer.from('Load')]);
  const good = boot(...sections, measured(12, 'EV_IPL', line), measured(9, 'EV_EVENT_TAG', tag, line));
  const [kernel] = referenceOf(good).kernels;
  const reference: StrictReferenceJson = {
    ...referenceOf(good),
    digests: {},
    unlisted: ['boot_variables'],
    kernels: [
      {
        images: kernel?.images ?? [],
        kernel_cmdline: 'root=/dev/vda[0-9] quiet',
        digests: {
          11: sections.map(({ measured }) => ({ sha256: `0x${digest('sha256', measured ?? line).toString('hex')}` })),
        },
      },
    ],
  };
  assert.deepEqual(judge(good, reference), []);
  const [first, ...others] = sections;
  assert(first);
  assert.deepEqual(reasons(boot(...others, measured(12, 'EV_IPL', line)), reference), ['event_missing']);
  const credential = measured(12, 'EV_IPL', encodeUtf16('name\0'), Buffer.from('secret'));
  assert.deepEqual(reasons(boot(...sections, measured(12, 'EV_IPL', line), credential), reference), [
    'event_unexpected',
  ]);
  const extension = measured(13, 'EV_IPL', encodeUtf16('ext\0'), Buffer.from('extension'));
  assert.deepEqual(reasons(boot(...sections, measured(12, 'EV_IPL', line), extension), reference), [
    'event_unexpected',
  ]);
  const other = measured(12, 'EV_IPL', encodeUtf16('root=/dev/vda2 quiet init=/bin/sh\0'));
  assert.deepEqual(reasons(boot(...sections, other), reference), ['kernel_cmdline_unexpected']);
});

test('the alternative that a boot is most like tells what is wrong with it', () => {
  const [kernel] = REFERENCE.kernels;
  assert(kernel);
  const other = { images: [{ sha256: `0x${'1'.repeat(64)}` }], cmdline_in_image: true };
  assert.deepEqual(judge(SECURE, { ...REFERENCE, kernels: [other, kernel] }), []);
  const boot = replacing(47, file('/boot/initrd.img', 'another'));
  assert.deepEqual(reasons(boot, { ...REFERENCE, kernels: [other, kernel] }), ['initrd_unexpected']);
});

test('no log is accepted whose events are cut off anywhere', () => {
  const events = eventsOf(vectorLog('debian12-secureboot-vm'));
  for (let count = 0; count < events.length; count++) {
    const log = decodeEventLog(encodeEventLog(['sha256'], events.slice(0, count).map(only256)));
    assert.notDeepEqual(judge(verifiedBy(log)), [], `${count} events`);
  }
});

function only256(event: EventToEncode): EventToEncode {
  const sha256 = event.digests?.get('sha256');
  return sha256 === undefined ? event : { ...event, digests: new Map([['sha256', sha256]]) };
}
