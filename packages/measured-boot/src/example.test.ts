import assert from 'node:assert/strict';
import { test } from 'node:test';
import { encodeVariable } from '@keylime/event-log/encode-data';
import type { VerifiedEventLog } from '@keylime/event-log/verify';
import { example } from './example.ts';
import {
  appending,
  changed,
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

/** What a tool of ours writes of the boot: the members of every version, and those of `strict`. */
const NEW = ((): StrictReferenceJson => {
  const reference = referenceOf(SECURE);
  const [shim, grubImage, kernel] = (reference.kernels[0]?.images ?? []).flatMap((each) =>
    each === 'signed' ? [] : [each.sha256 ?? ''],
  );
  const { images: _, ...rest } = reference.kernels[0] ?? {};
  return {
    ...reference,
    kernels: [
      {
        ...rest,
        ...{ shim_authcode_sha256: shim ?? '', grub_authcode_sha256: grubImage ?? '' },
        kernel_authcode_sha256: kernel ?? '',
      },
    ],
  };
})();

/** What older tools write of it. */
const OLD = (() => {
  const { digests: _, authorities: __, ...reference } = NEW;
  const { vmlinuz_plain_sha256: ___, ...kernel } = reference.kernels[0] ?? {};
  return { ...reference, vendor_db: [], kernels: [kernel] };
})();

function judge(boot: VerifiedEventLog, reference: object = OLD): readonly BootViolation[] {
  const decoded = example.decodeReference(JSON.parse(JSON.stringify(reference)));
  assert(decoded.ok, JSON.stringify(decoded));
  return example.evaluate(boot, decoded.value);
}

const reasons = (boot: VerifiedEventLog, reference?: object): readonly string[] =>
  judge(boot, reference).map(({ reason }) => reason);

test('one reference state serves example and strict, and example is content with that of older tools', () => {
  assert.deepEqual(judge(SECURE), []);
  assert.deepEqual(judge(SECURE, NEW), []);
  const decoded = strict.decodeReference(NEW);
  assert(decoded.ok);
  assert.deepEqual(strict.evaluate(SECURE, decoded.value), []);
});

test('strict takes the reference state of older tools, and tells which events it says nothing of', () => {
  const decoded = strict.decodeReference(OLD);
  assert(decoded.ok);
  const found = strict.evaluate(SECURE, decoded.value);
  assert.deepEqual(new Set(found.map(({ pcr }) => pcr)), new Set([1, 5, 8, 9]));
  assert.deepEqual(
    new Set(found.map(({ expected }) => expected)),
    new Set(['a digest that the reference state lists']),
  );
});

test('another command line and another initrd are refused, with event, expectation and finding', () => {
  const other = `${LINE} init=/bin/sh`;
  const boot = changed((events) =>
    events.with(44, grub('kernel_cmdline: ', other)).with(40, grub('grub_cmd: ', `linux ${other}`)),
  );
  assert.deepEqual(judge(boot), [
    {
      ...{ reason: 'kernel_cmdline_unexpected', event: 45, pcr: 8, type: 'EV_IPL' },
      ...{ expected: OLD.kernels[0]?.kernel_cmdline, found: other },
    },
  ]);
  const [first, ...others] = judge(replacing(47, file('/boot/initrd.img', 'another')));
  assert.deepEqual([first?.reason, first?.event, others], ['initrd_unexpected', 47, []]);
});

test('alternatives of a command line stay within it: the pattern is grouped', () => {
  const [kernel] = OLD.kernels;
  const only = (kernel_cmdline: string) => ({ ...OLD, kernels: [{ ...kernel, kernel_cmdline }] });
  assert.deepEqual(judge(SECURE, only('nothing|/boot/vmlinuz .*')), []);
  assert.deepEqual(reasons(SECURE, only('/boot/vmlinuz|nothing')), ['kernel_cmdline_unexpected']);
});

test('attack: SecureBoot was off, and the log says on', () => {
  const off = encodeVariable('SecureBoot', Buffer.of(0));
  const on = encodeVariable('SecureBoot', Buffer.of(1));
  const forged = replacing(4, measured(7, 'EV_EFI_VARIABLE_DRIVER_CONFIG', on, off));
  assert.deepEqual(reasons(forged), ['event_data_not_measured', 'event_missing']);
});

test('attack: the good command line with the digest of another, as a command, or after the boot', () => {
  const evil = `${LINE} init=/bin/sh`;
  const forged = measured(8, 'EV_IPL', Buffer.from(`kernel_cmdline: ${LINE}\0`), Buffer.from(evil));
  assert.deepEqual(reasons(replacing(45, forged)).slice(0, 1), ['event_data_not_measured']);
  const hidden = changed((events) => [
    ...events.with(40, grub('grub_cmd: ', `linux ${evil}`)).with(44, grub('grub_cmd: ', evil)),
    grub('grub_cmd: ', `linux ${LINE}`),
    grub('kernel_cmdline: ', LINE),
  ]);
  assert.deepEqual(reasons(hidden), ['kernel_cmdline_hidden']);
  assert.ok(reasons(hidden, NEW).includes('grub_command_unexpected'));
  const second = appending(grub('grub_cmd: ', `linux ${evil}`), grub('kernel_cmdline: ', evil));
  assert.deepEqual(reasons(second), ['kernel_cmdline_unexpected']);
});

test('attack: the evil initrd is called a file of GRUB, and the good one is extended after the boot', () => {
  const boot = changed((events, at) => [...events.with(46, file('/boot/grub2/x', 'evil')), at(47)]);
  assert.deepEqual(reasons(boot, NEW), ['file_unexpected']);
  const { 9: files, ...others } = NEW.digests ?? {};
  const [kernel] = NEW.kernels;
  const ofKernel = { ...NEW, digests: others, kernels: [{ ...kernel, digests: { 9: files ?? [] } }] };
  assert.deepEqual(judge(SECURE, ofKernel), []);
  assert.deepEqual(reasons(boot, ofKernel), ['file_unexpected']);
  // A reference state of older tools has no list of such files: their names decide, as in the existing verifier.
  assert.deepEqual(reasons(boot, OLD), []);
});

test('attack: a log without any event of a PCR, which leads to PCRs that nothing extended', () => {
  for (const pcr of [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]) {
    const boot = changed((events) => events.filter((event) => event.pcr !== pcr));
    assert.notDeepEqual(judge(boot), [], `PCR ${pcr}`);
  }
  const only7 = changed((events) => events.filter((event) => event.pcr !== 7));
  assert.deepEqual(
    reasons(only7),
    Array.from({ length: 6 }, () => 'event_missing'),
  );
});

test('events and variables of other kinds than the table has are refused', () => {
  const action = (pcr: number, text: string) => measured(pcr, 'EV_EFI_ACTION', Buffer.from(text));
  const authority = (name: string) => measured(7, 'EV_EFI_VARIABLE_AUTHORITY', encodeVariable(name, Buffer.alloc(20)));
  for (const [boot, reason] of [
    [inserting(2, measured(0, 'EV_POST_CODE', Buffer.from('ACPI DATA'), Buffer.from('x'))), 'event_unexpected'],
    [inserting(9, action(7, 'DMA Protection Disabled')), 'event_unexpected'],
    [inserting(22, action(6, 'UEFI Debug Mode')), 'event_unexpected'],
    [inserting(15, action(4, 'Entering ROM Based Setup')), 'action_unexpected'],
    [appending(image('evil')), 'image_unexpected'],
    [inserting(30, authority('Shim')), 'variable_unexpected'],
    [changed((events, at) => events.toSpliced(24, 0, at(25))), 'event_repeated'],
    [changed((events, at) => events.toSpliced(4, 0, at(4))), 'event_repeated'],
    [changed((events, at) => events.toSpliced(20, 0, at(20))), 'event_repeated'],
    [appending(measured(14, 'EV_IPL', Buffer.from('MokList\0'), Buffer.from('evil'))), 'mok_list_unexpected'],
    [replacing(9, measured(7, 'EV_SEPARATOR', Buffer.of(1, 0, 0, 0))), 'separator_tells_error'],
    [appending(grub('module_cmdline: ', 'x')), 'grub_command_unexpected'],
    [appending(grub('grub_cmd ', 'x')), 'grub_text_unexpected'],
    [appending(file('/boot/other', 'x')), 'file_unexpected'],
    [replacing(26, measured(5, 'EV_EFI_GPT_EVENT', Buffer.from('no table'))), 'event_data_malformed'],
    [without(2), 'firmware_unexpected'],
    [without(1), 'firmware_version_missing'],
    [inserting(1, measured(0, 'EV_NO_ACTION', Buffer.from('StartupLocality\0\0'))), 'remark_unexpected'],
  ] as const) {
    assert.equal(
      judge(boot).some((violation) => violation.reason === reason),
      true,
      reason,
    );
  }
});

test('the databases of Secure Boot are judged as by the existing verifier', () => {
  assert.deepEqual(reasons(SECURE, { ...OLD, db: [] }), ['signature_unexpected']);
  assert.deepEqual(reasons(SECURE, { ...OLD, pk: [] }), ['signature_unexpected']);
  assert.deepEqual(judge(SECURE, { ...OLD, dbx: [] }), []);
  const more = [...OLD.dbx, { SignatureOwner: OLD.dbx[0]?.SignatureOwner ?? '', SignatureData: '0x12' }];
  assert.deepEqual(reasons(SECURE, { ...OLD, dbx: more }), ['signature_missing']);
});

test('the digests of another bank than that of the quote decide nothing', () => {
  const sha384 = verifiedBy(vectorLog('debian12-secureboot-vm'), 'sha384');
  assert.ok(reasons(sha384).includes('image_unexpected'));
});

test('without Secure Boot the kernel is judged by its file, and empty databases are not judged', () => {
  const insecure = verifiedBy(vectorLog('debian12-uefi-vm'));
  const [kernel] = OLD.kernels;
  const off = {
    ...{ ...OLD, has_secureboot: false, pk: [], kek: [], db: [], dbx: [] },
    kernels: [{ ...kernel, vmlinuz_plain_sha256: NEW.kernels[0]?.vmlinuz_plain_sha256 }],
  };
  // This machine has neither shim nor GRUB; its variables are not what speaks against it.
  assert.ok(!reasons(insecure, off).some((reason) => /secure_boot|database|signature/.test(reason)));
  assert.ok(
    reasons(insecure, { ...off, has_secureboot: undefined, kernels: [kernel] }).includes('secure_boot_unexpected'),
  );
});

for (const [what, json, path] of [
  ['no kernel', { ...OLD, kernels: [] }, 'kernels'],
  [
    'a kernel without an initrd',
    { ...OLD, kernels: [{ ...OLD.kernels[0], initrd_plain_sha256: undefined }] },
    'kernels[0].initrd_plain_sha256',
  ],
  ['a kernel of the other kind', { ...OLD, has_secureboot: false }, 'kernels[0].vmlinuz_plain_sha256'],
  ['no list for MokList', { ...OLD, mokdig: undefined }, 'mokdig'],
  [
    'a pattern with a look-ahead',
    { ...OLD, kernels: [{ ...OLD.kernels[0], kernel_cmdline: '(?=x)' }] },
    'kernels[0].kernel_cmdline',
  ],
] as const) {
  test(`a reference state with ${what} is refused, with the path`, () => {
    const decoded = example.decodeReference(JSON.parse(JSON.stringify(json)));
    assert.deepEqual(decoded.ok ? [] : decoded.problem.map((problem) => problem.path), [path]);
  });
}

test('members that example does not know are passed over', () => {
  assert.equal(example.decodeReference({ ...OLD, comment: 'x' }).ok, true);
});
