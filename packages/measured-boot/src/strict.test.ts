import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { hintBytes } from '@keylime/event-log/coverage';
import type { EventToEncode } from '@keylime/event-log/encode';
import { encodeSignatureList, encodeUtf16, encodeVariable } from '@keylime/event-log/encode-data';
import { SIGNATURE_TYPES, VARIABLE_GUIDS } from '@keylime/event-log/guid';
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
import { INSECURE, judge, REFERENCE, reasons, SECURE } from './internal/strict-samples.ts';
import type { StrictReferenceJson } from './reference-json.ts';

test('a boot is accepted by the reference state that was made from its log, in every bank but SHA-1', () => {
  assert.deepEqual(judge(SECURE), []);
  const sha384 = verifiedBy(vectorLog('debian12-secureboot-vm'), 'sha384');
  assert.deepEqual(judge(sha384, referenceOf(sha384)), []);
  const sha1 = verifiedBy(vectorLog('debian12-secureboot-vm'), 'sha1');
  assert.deepEqual(judge(sha1), [{ reason: 'bank_not_in_reference', expected: 'sha256', found: 'sha1' }]);
  const withSha1 = {
    ...REFERENCE,
    scrtm_and_bios: [{ scrtm: { sha1: `0x${'0'.repeat(40)}` }, platform_firmware: [] }],
  };
  assert.deepEqual(reasons(sha1, withSha1), ['bank_not_in_reference']);
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

const ERROR = Buffer.of(1, 0, 0, 0);
/** What firmware logs for a BootOrder of 1 and 0, and what an attacker calls a separator that tells an error. */
const orderOf = (value: Buffer, pcr = 1) =>
  measured(pcr, 'EV_EFI_VARIABLE_BOOT', encodeVariable('BootOrder', value), value);
const UNLISTED: StrictReferenceJson = { ...REFERENCE, unlisted: ['boot_variables'] };

test('a BootOrder with the digest of a separator that tells an error is none, and such a separator is no BootOrder', () => {
  const [before, option0, option1] = [9, 11, 12];
  const ordered = (...behind: readonly number[]) =>
    changed((events, at) => [...events.slice(0, before), ...[orderOf(ERROR), ...behind.map(at)], ...events.slice(14)]);
  assert.deepEqual(judge(ordered(option1, option0), UNLISTED), []);
  assert.deepEqual(judge(ordered(option1, option0, 13), UNLISTED), []);
  for (const behind of [
    [option0, option1],
    [option1],
    [option1, 13, option0],
    [10, option1, option0],
    [option1, option0, 10, option0, option1],
    [],
  ]) {
    assert.deepEqual(reasons(ordered(...behind), UNLISTED), ['separator_tells_error'], behind.join());
  }
});

const at = (index: number) => eventsOf(vectorLog('debian12-secureboot-vm'))[index - 1] ?? assert.fail(`event ${index}`);
const replaced = (index: number, by: readonly EventToEncode[]) =>
  changed((events) => events.toSpliced(index - 1, 1, ...by));

test('attack: firmware tells an error in PCR 1 or 5; the log calls that a BootOrder, and a separator is extended later', () => {
  for (const [pcr, separator] of [
    [1, 17],
    [5, 21],
  ] as const) {
    for (const value of [ERROR, Buffer.alloc(4, 0xff)]) {
      const order = [orderOf(value, pcr), ...[at(12), at(11)].map((event) => ({ ...event, pcr })), at(separator)];
      assert.deepEqual(reasons(replaced(separator, order), UNLISTED), ['separator_tells_error'], `PCR ${pcr}`);
    }
  }
});

test('a BootOrder with an option twice is none', () => {
  const option = encodeVariable('BootFFFF', hintBytes(SECURE.events[10] ?? assert.fail()).subarray(48));
  const twice = measured(1, 'EV_EFI_VARIABLE_BOOT', option, option.subarray(48));
  const order = orderOf(Buffer.alloc(4, 0xff));
  const boot = changed((events) => [...events.slice(0, 9), order, twice, twice, ...events.slice(14)]);
  assert.deepEqual(reasons(boot, UNLISTED), ['separator_tells_error']);
});

test('of boot variables only BootOrder and Boot#### need not be listed', () => {
  const other = (name: string, data: Buffer) => measured(1, 'EV_EFI_VARIABLE_BOOT', encodeVariable(name, data), data);
  assert.deepEqual(reasons(inserting(10, other('DriverOrder', Buffer.of(7, 0))), UNLISTED), ['event_unexpected']);
  assert.deepEqual(judge(inserting(10, other('BootOrder', Buffer.of(7, 0))), UNLISTED), []);
});

test('load options are those of the command line, or known by their digest', () => {
  const tag = Buffer.concat([Buffer.of(0xed, 0x22, 0x3b, 0x8f, 4, 0, 0, 0), Buffer.from('Load')]);
  const options = (text: string) => measured(9, 'EV_EVENT_TAG', tag, encodeUtf16(text));
  assert.deepEqual(judge(appending(options(`BOOT_IMAGE=${LINE}\0`))), []);
  const other = options(`BOOT_IMAGE=${LINE} init=/bin/sh\0`);
  assert.deepEqual(reasons(appending(other)), ['load_options_unexpected']);
  const [kernel] = REFERENCE.kernels;
  const load_options = { sha256: `0x${digest('sha256', other.measured ?? tag).toString('hex')}` };
  const known: StrictReferenceJson = { ...REFERENCE, kernels: [{ ...kernel, load_options }] };
  assert.deepEqual(judge(appending(other), known), []);
  assert.deepEqual(reasons(SECURE, known), ['load_options_missing']);
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

test('attack: a SbatLevel that is extended after the boot does not make up for that of shim', () => {
  const [kernel] = REFERENCE.kernels;
  const [shim] = kernel?.images ?? [];
  assert(kernel && shim);
  const reference: StrictReferenceJson = {
    ...REFERENCE,
    sbat_level: 'sbat,1,2025021800\nshim,5\n',
    kernels: [{ ...kernel, images: [shim, 'signed', 'signed'] }],
  };
  const high = Buffer.from('sbat,1,2026010100\nshim,9\n');
  const data = encodeVariable('SbatLevel', high, { owner: VARIABLE_GUIDS.shimLock });
  assert.deepEqual(reasons(appending(measured(7, 'EV_EFI_VARIABLE_AUTHORITY', data)), reference), [
    'sbat_level_too_low',
  ]);
  assert.deepEqual(reasons(SECURE, { ...reference, sbat_level: 'sbat,1,2025021800\nshim,4\n' }), []);
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

test('sections of an image that is accepted as signed need not be listed, where the reference state says so', () => {
  const name = encodeUtf16('.linux\0');
  const boot = appending(measured(11, 'EV_IPL', name, Buffer.from('.linux\0')), measured(11, 'EV_IPL', name, name));
  const [kernel] = REFERENCE.kernels;
  const signed: StrictReferenceJson = {
    ...REFERENCE,
    kernels: [{ ...kernel, images: ['signed', 'signed', 'signed'] }],
  };
  assert.deepEqual(reasons(boot, signed), ['event_unexpected', 'event_unexpected']);
  assert.deepEqual(judge(boot, { ...signed, unlisted: ['unified_kernel_sections'] }), []);
  const byDigest: StrictReferenceJson = { ...REFERENCE, unlisted: ['unified_kernel_sections'] };
  assert.deepEqual(reasons(boot, byDigest), ['event_unexpected', 'event_unexpected']);
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
    assert.notDeepEqual(judge(bootOf(events.slice(0, count))), [], `${count} events`);
  }
});
