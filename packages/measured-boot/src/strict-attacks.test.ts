import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeVariable } from '@keylime/event-log/encode-data';
import {
  appending,
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
  without,
} from './internal/samples.ts';
import { INSECURE, judge, REFERENCE, reasons, SECURE } from './internal/strict-samples.ts';

const eventPcr = (index: number): number | undefined => SECURE.events.find((event) => event.index === index)?.pcr;

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

test('attack: a key that was enrolled with shim, whatever its event is called', () => {
  for (const name of ['MokList', 'MokListX', 'MokListTrusted']) {
    const key = measured(14, 'EV_IPL', Buffer.from(`${name}\0`), Buffer.from('evil'));
    assert.deepEqual(reasons(appending(key)), ['event_unexpected']);
    assert.deepEqual(reasons(replacing(28, key)), ['mok_list_unexpected']);
  }
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

test('attack: the log of another system', () => {
  assert.ok(reasons(INSECURE).length > 5);
  assert.ok(reasons(SECURE, referenceOf(INSECURE)).length > 5);
});
