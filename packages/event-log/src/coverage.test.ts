import assert from 'node:assert/strict';
import { test } from 'node:test';
import { coveredData, hintBytes, hintData, type MeasuredEvent, measuredIn } from './coverage.ts';
import { decodeEventLog } from './decode.ts';
import { type EventToEncode, encodeEventLog } from './encode.ts';
import { encodeImageLoad, encodeNumber, encodeUtf16, encodeVariable, PATH_END } from './encode-data.ts';
import { ascii, gpt, guidBytes, SAMPLE_GUID } from './internal/samples.ts';

function measured(event: EventToEncode, bank: 'sha1' | 'sha256' = 'sha256'): MeasuredEvent {
  const found = decodeEventLog(encodeEventLog(['sha1', 'sha256'], [event])).events[1];
  const inBank = found && measuredIn(found, bank);
  assert(inBank);
  return inBank;
}

const OTHER = ascii('something else');
const AUTHORITY = encodeVariable('db', Buffer.concat([guidBytes(SAMPLE_GUID), ascii('certificate')]));

/** Events whose digest should be of their data. */
const SELF_MEASURED: readonly EventToEncode[] = [
  { pcr: 0, type: 'EV_SEPARATOR', data: encodeNumber(0, 4) },
  { pcr: 0, type: 'EV_S_CRTM_VERSION', data: encodeUtf16('1.0\0') },
  { pcr: 4, type: 'EV_EFI_ACTION', data: ascii('Calling EFI Application from Boot Option') },
  { pcr: 5, type: 'EV_ACTION', data: ascii('action') },
  { pcr: 5, type: 'EV_EFI_GPT_EVENT', data: gpt() },
  { pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data: encodeVariable('SecureBoot', Buffer.of(1)) },
  { pcr: 7, type: 'EV_EFI_VARIABLE_AUTHORITY', data: AUTHORITY },
  { pcr: 1, type: 'EV_EFI_VARIABLE_BOOT', data: encodeVariable('BootOrder', encodeNumber(1, 2)) },
  {
    pcr: 12,
    type: 'EV_EVENT_TAG',
    data: Buffer.concat([encodeNumber(0x4001_0001, 4), encodeNumber(1, 4), Buffer.of(1)]),
  },
  { pcr: 8, type: 'EV_IPL', data: encodeUtf16('quiet\0') },
];

for (const event of SELF_MEASURED) {
  test(`data of ${event.type} in PCR ${event.pcr} is covered where its digest is that of the data, and forged where not`, () => {
    const right = measured(event);
    assert.equal(right.coverage, 'whole');
    assert.deepEqual(coveredData(right), hintData(right));
    const wrong = measured({ ...event, measured: OTHER });
    assert.equal(wrong.coverage, 'mismatch');
    assert.equal(coveredData(wrong), undefined);
    assert.deepEqual(hintBytes(wrong), Buffer.from(event.data));
  });
}

/** Events that describe what was measured: that the description hashes to the digest would be somebody's trick. */
const DESCRIBED: readonly EventToEncode[] = [
  { pcr: 4, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data: encodeImageLoad(PATH_END) },
  { pcr: 2, type: 'EV_EFI_BOOT_SERVICES_DRIVER', data: encodeImageLoad(PATH_END) },
  { pcr: 0, type: 'EV_EFI_RUNTIME_SERVICES_DRIVER', data: encodeImageLoad(PATH_END) },
  { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB', data: Buffer.alloc(16, 1) },
  { pcr: 0, type: 'EV_EFI_PLATFORM_FIRMWARE_BLOB2', data: Buffer.alloc(17) },
  { pcr: 0, type: 'EV_S_CRTM_CONTENTS', data: Buffer.alloc(16, 1) },
  { pcr: 0, type: 'EV_POST_CODE', data: ascii('ACPI DATA') },
  { pcr: 1, type: 'EV_EFI_HANDOFF_TABLES', data: encodeNumber(0, 8) },
  { pcr: 1, type: 'EV_CPU_MICROCODE', data: ascii('microcode') },
  { pcr: 0, type: 'EV_EFI_HCRTM_EVENT', data: ascii('HCRTM') },
  { pcr: 9, type: 'EV_IPL', data: ascii('/boot/vmlinuz\0') },
  { pcr: 14, type: 'EV_IPL', data: ascii('MokList\0') },
];

for (const event of DESCRIBED) {
  test(`data of ${event.type} in PCR ${event.pcr} is a hint, even if its digest is that of the data`, () => {
    assert.deepEqual([measured(event).coverage, coveredData(measured(event))], ['none', undefined]);
    assert.equal(measured({ ...event, measured: OTHER }).coverage, 'none');
  });
}

for (const event of [
  { pcr: 6, type: 'EV_COMPACT_HASH', data: ascii('Dell Configuration Information 1') },
  { pcr: 1, type: 'EV_PLATFORM_CONFIG_FLAGS', data: ascii('FeatureTME=0') },
  { pcr: 0, type: 'EV_NONHOST_INFO', data: Buffer.concat([ascii('GCE NonHostInfo\0'), Buffer.of(4)]) },
  { pcr: 12, type: 'EV_IPL', data: encodeUtf16('root=/dev/sda2\0') },
  { pcr: 2, type: 0x8401, data: Buffer.of(1) },
] as const satisfies readonly EventToEncode[]) {
  test(`data of ${event.type} in PCR ${event.pcr} is covered where its digest is that of the data, else a hint`, () => {
    assert.equal(measured(event).coverage, 'whole');
    assert.equal(measured({ ...event, measured: OTHER }).coverage, 'none');
  });
}

test('what GRUB ran is covered, not whether it was a command or a command line', () => {
  const text = ascii('/vmlinuz root=/dev/sda2 quiet');
  const honest = measured({ pcr: 8, type: 'EV_IPL', data: ascii(`kernel_cmdline: ${text}\0`), measured: text });
  const relabelled = measured({ pcr: 8, type: 'EV_IPL', data: ascii(`grub_cmd: ${text}\0`), measured: text });
  assert.deepEqual(coveredData(honest), { kind: 'grub_text', text: text.toString() });
  assert.deepEqual(coveredData(relabelled), coveredData(honest));
  assert.equal(
    measured({ pcr: 8, type: 'EV_IPL', data: ascii(`kernel_cmdline: ${text}\0`), measured: OTHER }).coverage,
    'mismatch',
  );
});

test('a GRUB command that is named like a command line does not pass for one', () => {
  const data = ascii('kernel_cmdline: /vmlinuz quiet');
  assert.equal(measured({ pcr: 8, type: 'EV_IPL', data }).coverage, 'mismatch');
});

test('the name of a section of a unified kernel image is covered by the event that measures it, not by that of the content', () => {
  const data = encodeUtf16('.linux\0');
  const name = measured({ pcr: 11, type: 'EV_IPL', data, measured: ascii('.linux\0') });
  assert.deepEqual([name.coverage, coveredData(name)], ['text', { kind: 'section', name: '.linux' }]);
  assert.equal(measured({ pcr: 11, type: 'EV_IPL', data, measured: OTHER }).coverage, 'none');
});

test("events of Linux's stub are hints", () => {
  const text = ascii('Linux initrd\0');
  const data = Buffer.concat([encodeNumber(0x8f3b22ec, 4), encodeNumber(text.length, 4), text]);
  const event = measured({ pcr: 9, type: 'EV_EVENT_TAG', data });
  assert.equal(event.coverage, 'none');
  assert.deepEqual(hintData(event), { kind: 'tag', id: 0x8f3b22ec, meaning: 'linux_initrd', data: text });
});

test('each bank has its own say: a digest that is right in one bank does not cover the data in another', () => {
  const data = encodeVariable('SecureBoot', Buffer.of(1));
  const honest = decodeEventLog(
    encodeEventLog(['sha1', 'sha256'], [{ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data }]),
  ).events[1];
  assert(honest);
  const digests = new Map([
    ['sha1', Buffer.from(honest.digests.get('sha1') ?? '', 'hex')],
    ['sha256', Buffer.alloc(32)],
  ] as const);
  const forged: EventToEncode = { pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data, digests };
  assert.equal(measured(forged, 'sha1').coverage, 'whole');
  assert.equal(measured(forged, 'sha256').coverage, 'mismatch');
});

test('EV_NO_ACTION is measured in no bank, whatever digests it has', () => {
  const data = ascii('remark');
  const log = decodeEventLog(
    encodeEventLog(
      ['sha256'],
      [{ pcr: 0, type: 'EV_NO_ACTION', data, digests: new Map([['sha256', Buffer.alloc(32, 1)]]) }],
    ),
  );
  assert.equal(log.events.length, 2);
  for (const event of log.events) assert.equal(measuredIn(event, 'sha256'), undefined);
});
