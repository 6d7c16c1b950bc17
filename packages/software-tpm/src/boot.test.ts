import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { test } from 'node:test';
import { digestHex } from '@keylime/core/digest';
import { coveredData, hintData, type MeasuredEvent } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { encodeEventLog } from '@keylime/event-log/encode';
import { replayBank } from '@keylime/event-log/replay';
import { verifyEventLog } from '@keylime/event-log/verify';
import { type Boot, bootEvents, goodBoot } from './boot.ts';
import { makeBootCertificates } from './boot-certificates.ts';
import { BOOT_BANKS } from './measure-boot.ts';

const BOOT_PCRS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14];
const certificates = await makeBootCertificates();

function eventsOf(changes: Partial<Boot> = {}): readonly MeasuredEvent[] {
  const log = decodeEventLog(encodeEventLog(BOOT_BANKS, bootEvents({ ...goodBoot(certificates), ...changes })));
  assert.deepEqual(log.problems, []);
  const verified = verifyEventLog(log, { bank: 'sha256', pcrs: fullyReplayed(log) }, BOOT_PCRS);
  assert(verified.ok);
  return verified.log.events;
}

const fullyReplayed = (log: ReturnType<typeof decodeEventLog>) =>
  new Map(BOOT_PCRS.map((pcr) => [pcr, replayBank(log, 'sha256').get(pcr) ?? Buffer.alloc(32)]));

/** The variables of PCR 7 by name. */
function variables(events: readonly MeasuredEvent[], type: MeasuredEvent['type'] = 'EV_EFI_VARIABLE_DRIVER_CONFIG') {
  const found = new Map<string, Extract<ReturnType<typeof hintData>, { kind: 'variable' }>>();
  for (const event of events) {
    const data = coveredData(event);
    if (event.type === type && event.pcr === 7 && data?.kind === 'variable') found.set(data.name, data);
  }
  return found;
}

test('every event says what it is, and digests cover what those of real firmware cover', () => {
  const events = eventsOf();
  assert.equal(events.filter(({ coverage }) => coverage === 'mismatch').length, 0);
  for (const event of events) assert.notEqual(hintData(event).kind, 'malformed');
  const coverages = Object.groupBy(events, ({ coverage }) => coverage);
  assert.deepEqual(
    new Set(coverages.none?.map(({ type }) => type)),
    new Set(['EV_EFI_PLATFORM_FIRMWARE_BLOB', 'EV_EFI_BOOT_SERVICES_APPLICATION', 'EV_IPL']),
  );
  assert.deepEqual(new Set(coverages.value?.map(({ type }) => type)), new Set(['EV_EFI_VARIABLE_BOOT']));
});

test('the signature databases hold real certificates and the digests to refuse', () => {
  const databases = variables(eventsOf({ dbx: [Buffer.alloc(32, 1), Buffer.alloc(32, 2)] }));
  for (const [name, certificate] of [
    ['PK', certificates.platform],
    ['KEK', certificates.keyExchange],
    ['db', certificates.image],
  ] as const) {
    const value = databases.get(name)?.value;
    assert(value?.kind === 'signature_database');
    const data = value.lists[0]?.signatures[0]?.data;
    assert.deepEqual(data, certificate);
    assert.match(new X509Certificate(certificate).subject, /^CN=Example/);
  }
  const dbx = databases.get('dbx')?.value;
  assert(dbx?.kind === 'signature_database');
  assert.deepEqual(
    dbx.lists[0]?.signatures.map(({ data }) => data[0]),
    [1, 2],
  );
});

test('without Secure Boot nobody vouches for an image, and the kernel is measured as a file only', () => {
  const on = eventsOf();
  const off = eventsOf({ secureBoot: false });
  const state = (events: readonly MeasuredEvent[]) => variables(events).get('SecureBoot')?.value;
  assert.deepEqual(
    [state(on), state(off)],
    [
      { kind: 'switch', on: true },
      { kind: 'switch', on: false },
    ],
  );
  const authorities = (events: readonly MeasuredEvent[]) => [...variables(events, 'EV_EFI_VARIABLE_AUTHORITY').keys()];
  assert.deepEqual([authorities(on), authorities(off)], [['db', 'SbatLevel', 'MokListRT'], ['SbatLevel']]);
  const images = (events: readonly MeasuredEvent[]) =>
    events.filter(({ type }) => type === 'EV_EFI_BOOT_SERVICES_APPLICATION').length;
  assert.deepEqual([images(on), images(off)], [3, 2]);
});

test('another kernel, initrd or command line changes its own events and no others', () => {
  const good = eventsOf();
  const changed = (changes: Partial<Boot>) => {
    const events = eventsOf(changes);
    return events
      .flatMap((event, i) => (event.digest === good[i]?.digest ? [] : [hintData(event)]))
      .map((data) => {
        if (data.kind === 'grub') return data.role;
        return data.kind === 'file' ? data.path : data.kind;
      });
  };
  assert.deepEqual(changed({ kernel: Buffer.from('another') }), ['/boot/vmlinuz', 'image_load']);
  assert.deepEqual(changed({ initrd: Buffer.from('another') }), ['/boot/initrd.img']);
  assert.deepEqual(changed({ kernelCommandLine: '/boot/vmlinuz init=/bin/sh' }), [
    '(hd0,gpt1)/EFI/debian/grub.cfg',
    'command',
    'kernel_cmdline',
  ]);
  assert.equal(
    good.find(
      (event) => hintData(event).kind === 'file' && event.digest === digestHex('sha256', goodBoot(certificates).kernel),
    )?.pcr,
    9,
  );
});
