import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { coveredData, hintData, type MeasuredEvent, measuredIn } from './coverage.ts';
import { decodeEventLog } from './decode.ts';
import { type EventToEncode, encodeEventLog, encodeSha1Log } from './encode.ts';
import { encodeFileNode, encodeImageLoad, encodeNumber, encodeUtf16, encodeVariable, PATH_END } from './encode-data.ts';
import type { BootEvent } from './event.ts';
import { VARIABLE_GUIDS } from './guid.ts';
import { ascii, guidBytes, SAMPLE_GUID } from './internal/samples.ts';
import { QUIRKS, type Quirk } from './quirks.ts';
import { replayBank } from './replay.ts';
import { verifyEventLog } from './verify.ts';

const shown = new Set<Quirk>();

/** A test that a quirk is taken as it is, told by its name, and no problem. */
const quirkTest = (quirk: Quirk, sentence: string, body: () => void): void => {
  shown.add(quirk);
  test(`${quirk}: ${sentence}`, body);
};

/** `event` as the only one of a log behind its Spec ID event. */
function decoded(event: EventToEncode): BootEvent {
  const log = decodeEventLog(encodeEventLog(['sha256'], [event]));
  assert.deepEqual(log.problems, []);
  const found = log.events[1];
  assert(found);
  return found;
}

function measured(event: EventToEncode): MeasuredEvent {
  const found = measuredIn(decoded(event), 'sha256');
  assert(found);
  return found;
}

quirkTest('legacy_log_starts_with_no_action', 'a SHA-1 log may start with a startup locality', () => {
  const data = Buffer.concat([ascii('StartupLocality\0'), Buffer.of(3)]);
  const log = decodeEventLog(encodeSha1Log([{ pcr: 0, type: 'EV_NO_ACTION', data }]));
  assert.deepEqual([log.format, log.problems, log.events.length], ['sha1', [], 1]);
  assert.deepEqual(log.events[0]?.quirks, ['legacy_log_starts_with_no_action']);
  assert.deepEqual(log.events.map(hintData), [{ kind: 'startup_locality', locality: 3 }]);
});

quirkTest('no_action_without_pcr', 'a remark of PCR 0xffffffff extends nothing', () => {
  const log = decodeEventLog(
    encodeEventLog(['sha256'], [{ pcr: 0xffff_ffff, type: 'EV_NO_ACTION', data: ascii('WBCL') }]),
  );
  assert.deepEqual([log.problems, log.events[1]?.quirks], [[], ['no_action_without_pcr']]);
  assert.equal(replayBank(log, 'sha256').size, 0);
});

quirkTest('vendor_event_type', 'a type of no specification extends its PCR and keeps its number', () => {
  const event = measured({ pcr: 2, type: 0x8401, data: Buffer.of(1) });
  assert.deepEqual([event.type, event.typeId, event.quirks], ['unknown', 0x8401, ['vendor_event_type']]);
});

quirkTest('bank_left_out', 'a record without a digest of a bank does not touch that bank', () => {
  const data = encodeNumber(0, 4);
  const digests = new Map([['sha256', digest('sha256', data)]] as const);
  const log = decodeEventLog(encodeEventLog(['sha1', 'sha256'], [{ pcr: 12, type: 'EV_SEPARATOR', data, digests }]));
  assert.deepEqual([log.problems, log.events[1]?.quirks], [[], ['bank_left_out']]);
  assert.deepEqual([replayBank(log, 'sha1').size, replayBank(log, 'sha256').size], [0, 1]);
});

quirkTest('no_digests', 'a record without digests touches no bank', () => {
  const data = encodeNumber(0, 4);
  const log = decodeEventLog(encodeEventLog(['sha256'], [{ pcr: 1, type: 'EV_SEPARATOR', data, digests: new Map() }]));
  assert.deepEqual([log.problems, log.events[1]?.quirks], [[], ['no_digests']]);
  assert.equal(replayBank(log, 'sha256').size, 0);
});

quirkTest('spec_id_trailing_bytes', 'bytes behind vendorInfo do not move the records behind them', () => {
  const log = encodeEventLog(['sha256'], [{ pcr: 1, type: 'EV_SEPARATOR', data: encodeNumber(0, 4) }]);
  const size = log.readUInt32LE(28);
  const longer = Buffer.concat([log.subarray(0, 32 + size), Buffer.of(1, 2, 3), log.subarray(32 + size)]);
  longer.writeUInt32LE(size + 3, 28);
  const found = decodeEventLog(longer);
  assert.deepEqual([found.problems, found.events.length], [[], 2]);
  assert.deepEqual(found.events[0]?.quirks, ['spec_id_trailing_bytes']);
});

quirkTest('uintn_of_other_size', '32-bit structures are read though the log says 64-bit', () => {
  const event = measured({
    pcr: 7,
    type: 'EV_EFI_VARIABLE_DRIVER_CONFIG',
    data: encodeVariable('SecureBoot', Buffer.of(1), { uintn: 4 }),
  });
  const data = coveredData(event);
  assert(data?.kind === 'variable');
  assert.deepEqual(
    [data.name, data.value, event.quirks],
    ['SecureBoot', { kind: 'switch', on: true }, ['uintn_of_other_size']],
  );
});

/** DER of nothing in particular, 16 bytes, as old shim logs it: no owner before it, 6 bytes of nothing behind it. */
const CERTIFICATE = Buffer.concat([Buffer.from('3082000c', 'hex'), Buffer.alloc(12, 7)]);
const OLD_SHIM = encodeVariable('Shim', Buffer.concat([CERTIFICATE, Buffer.alloc(6)]), {
  owner: VARIABLE_GUIDS.shimLock,
  dataLength: CERTIFICATE.length,
});

quirkTest('shim_authority_without_owner', 'the certificate is found, and no owner made up', () => {
  const data = hintData(decoded({ pcr: 7, type: 'EV_EFI_VARIABLE_AUTHORITY', data: OLD_SHIM }));
  assert(data.kind === 'variable');
  assert.deepEqual(data.value, { kind: 'authority', owner: undefined, data: CERTIFICATE });
});

quirkTest(
  'shim_authority_digest_without_last_byte',
  'the certificate is covered by a digest of all but the last byte',
  () => {
    const authority = { pcr: 7, type: 'EV_EFI_VARIABLE_AUTHORITY', data: OLD_SHIM } as const;
    const event = measured({ ...authority, measured: OLD_SHIM.subarray(0, -1) });
    assert.equal(event.coverage, 'whole');
    assert(event.quirks.includes('shim_authority_digest_without_last_byte'));
    // Where the last byte is one of the value it must be covered like the others.
    const whole = encodeVariable('Shim', Buffer.concat([guidBytes(SAMPLE_GUID), CERTIFICATE]));
    const shorter = measured({
      pcr: 7,
      type: 'EV_EFI_VARIABLE_AUTHORITY',
      data: whole,
      measured: whole.subarray(0, -1),
    });
    assert.equal(shorter.coverage, 'mismatch');
  },
);

quirkTest('image_load_trailing_bytes', 'bytes behind a device path are left out of it', () => {
  const data = Buffer.concat([
    encodeImageLoad(Buffer.concat([encodeFileNode('\\EFI\\grub.efi'), PATH_END])),
    Buffer.alloc(9),
  ]);
  const event = decoded({ pcr: 4, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data });
  const hint = hintData(event);
  assert(hint.kind === 'image_load');
  assert.deepEqual([hint.devicePath, event.quirks], ['\\EFI\\grub.efi', ['image_load_trailing_bytes']]);
});

quirkTest('shim_stray_byte', 'a byte behind the NUL is not one of the name', () => {
  const event = decoded({ pcr: 14, type: 'EV_IPL', data: Buffer.concat([ascii('MokList\0'), Buffer.of(0xaf)]) });
  assert.deepEqual([hintData(event), event.quirks], [{ kind: 'shim_variable', name: 'MokList' }, ['shim_stray_byte']]);
});

quirkTest('boot_variable_digest_of_value', 'the value is covered, the name is not', () => {
  const value = encodeNumber(0x0001, 2);
  const event = measured({
    pcr: 1,
    type: 'EV_EFI_VARIABLE_BOOT',
    data: encodeVariable('BootOrder', value),
    measured: value,
  });
  assert.deepEqual([event.coverage, event.quirks], ['value', ['boot_variable_digest_of_value']]);
  assert.deepEqual(coveredData(event), { kind: 'variable_value', data: value });
});

quirkTest('config_variable_digest_of_value', 'SecureBoot may be any variable whose value is 1', () => {
  const data = encodeVariable('SecureBoot', Buffer.of(1));
  const event = measured({ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data, measured: Buffer.of(1) });
  assert.deepEqual([event.coverage, event.quirks], ['value', ['config_variable_digest_of_value']]);
  assert.deepEqual(coveredData(event), { kind: 'variable_value', data: Buffer.of(1) });
});

quirkTest('secure_boot_empty', 'SecureBoot without a value is off', () => {
  const data = encodeVariable('SecureBoot', Buffer.alloc(0));
  const event = measured({ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data });
  const covered = coveredData(event);
  assert(covered?.kind === 'variable');
  assert.deepEqual([covered.value, event.quirks], [{ kind: 'switch', on: false }, ['secure_boot_empty']]);
});

quirkTest('crtm_contents_text', 'text is not taken for an address', () => {
  const event = decoded({ pcr: 0, type: 'EV_S_CRTM_CONTENTS', data: ascii('Boot Guard Measured S-CRTM\0') });
  assert.deepEqual(
    [hintData(event), event.quirks],
    [{ kind: 'text', text: 'Boot Guard Measured S-CRTM', encoding: 'ascii' }, ['crtm_contents_text']],
  );
});

quirkTest('crtm_version_digest_mismatch', 'a version with another digest is not covered, and says why', () => {
  const event = measured({ pcr: 0, type: 'EV_S_CRTM_VERSION', data: encodeUtf16('1.2.3\0'), measured: ascii('1.2.3') });
  assert.deepEqual([event.coverage, event.quirks], ['mismatch', ['crtm_version_digest_mismatch']]);
  assert.equal(coveredData(event), undefined);
});

quirkTest('hcrtm_text', 'other data than HCRTM does not matter: the locality is 4', () => {
  const event = decoded({ pcr: 0, type: 'EV_EFI_HCRTM_EVENT', data: ascii('H-CRTM measured\0') });
  assert.deepEqual(event.quirks, ['hcrtm_text']);
  assert.equal(hintData(event).kind, 'text');
});

quirkTest('grub_old_prefix', 'prefixes without a colon are understood', () => {
  const command = { pcr: 8, type: 'EV_IPL', data: ascii('grub_cmd boot\0'), measured: ascii('boot') } as const;
  assert.deepEqual(coveredData(measured(command)), { kind: 'grub_text', text: 'boot' });
  const line = decoded({ pcr: 8, type: 'EV_IPL', data: ascii('grub_kernel_cmdline /vmlinuz quiet\0') });
  assert.deepEqual(hintData(line), { kind: 'grub', role: 'kernel_cmdline', text: '/vmlinuz quiet' });
  assert.deepEqual(line.quirks, ['grub_old_prefix']);
});

quirkTest('grub_digest_with_nul', 'the text is covered by a digest with its NUL', () => {
  const event = measured({ pcr: 8, type: 'EV_IPL', data: ascii('grub_cmd boot\0'), measured: ascii('boot\0') });
  assert.deepEqual([event.coverage, event.quirks], ['text', ['grub_old_prefix', 'grub_digest_with_nul']]);
});

quirkTest('systemd_boot_digest_with_nul', 'the command line is covered by a digest with one NUL more', () => {
  const text = encodeUtf16('root=/dev/sda2\0');
  // The log of a real machine has the text without the last byte of its NUL.
  for (const data of [text, text.subarray(0, -1)]) {
    const event = measured({ pcr: 8, type: 'EV_IPL', data, measured: Buffer.concat([data, Buffer.of(0)]) });
    assert.deepEqual(coveredData(event), { kind: 'load_options', text: 'root=/dev/sda2' });
    assert.deepEqual(event.quirks, ['systemd_boot_digest_with_nul']);
  }
});

quirkTest('not_utf8', 'bytes that are not UTF-8 are kept, one character each', () => {
  const event = decoded({ pcr: 9, type: 'EV_IPL', data: Buffer.concat([ascii('/boot/'), Buffer.of(0xe9, 0xff, 0)]) });
  assert.deepEqual([hintData(event), event.quirks], [{ kind: 'file', path: '/boot/\u00e9\u00ff' }, ['not_utf8']]);
});

quirkTest('separator_with_other_value', 'the value of a separator tells a firmware error', () => {
  const event = measured({ pcr: 3, type: 'EV_SEPARATOR', data: encodeNumber(1, 4) });
  assert.deepEqual(
    [coveredData(event), event.quirks],
    [{ kind: 'separator', value: 1 }, ['separator_with_other_value']],
  );
  assert.deepEqual(decoded({ pcr: 3, type: 'EV_SEPARATOR', data: encodeNumber(0xffff_ffff, 4) }).quirks, []);
});

quirkTest('exit_boot_services_not_logged', 'PCR 5 may hold what was not logged, unless this is refused', () => {
  const before: EventToEncode = { pcr: 5, type: 'EV_SEPARATOR', data: encodeNumber(0, 4) };
  const exits = ['Exit Boot Services Invocation', 'Exit Boot Services Returned with Failure'];
  const extended = [before, ...exits.map((text) => ({ pcr: 5, type: 'EV_EFI_ACTION', data: ascii(text) }) as const)];
  const quote = {
    bank: 'sha256',
    pcrs: replayBank(decodeEventLog(encodeEventLog(['sha256'], extended)), 'sha256'),
  } as const;
  const log = decodeEventLog(encodeEventLog(['sha256'], [before]));
  const accepted = verifyEventLog(log, quote, [5]);
  assert(accepted.ok);
  assert.deepEqual(accepted.log.unloggedActions, exits);
  const refused = verifyEventLog(log, quote, [5], { unloggedExitBootServices: 'refuse' });
  assert(!refused.ok);
  assert.equal(refused.failures[0].kind, 'measured_boot_pcr_mismatch');
});

test('every quirk of the table has its test', () => {
  assert.deepEqual([...shown].sort(), Object.keys(QUIRKS).sort());
});
