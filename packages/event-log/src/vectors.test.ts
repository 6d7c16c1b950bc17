import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { HashAlgorithm } from '@keylime/core/digest';
import { coveredData, hintData, type MeasuredEvent } from './coverage.ts';
import { decodeEventLog } from './decode.ts';
import { initialPcr, replayEventLog } from './replay.ts';
import { bootAggregates, verifyEventLog } from './verify.ts';

const vector = (machine: string, name: string): Buffer =>
  readFileSync(new URL(`../../testing/vectors/${machine}/${name}`, import.meta.url));

const pcrsOf = (machine: string, bank: string): ReadonlyMap<number, Buffer> =>
  new Map(
    [
      ...vector(machine, `pcrs-${bank}.txt`)
        .toString()
        .matchAll(/^(\d+) ([0-9A-F]+)$/gm),
    ].map(([, pcr, value]) => [Number(pcr), Buffer.from(value ?? '', 'hex')]),
  );

const BANKS: readonly HashAlgorithm[] = ['sha1', 'sha256', 'sha384'];

for (const [machine, count, touched] of [
  ['debian12-uefi-vm', 25, [0, 1, 2, 3, 4, 5, 6, 7, 9]],
  ['debian12-secureboot-vm', 51, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14]],
] as const) {
  test(`the log of ${machine} decodes without a problem: ${count} records in three banks`, () => {
    const log = decodeEventLog(vector(machine, 'bios.bin'));
    assert.deepEqual([log.format, log.events.length, log.problems, log.banks], ['crypto_agile', count, [], BANKS]);
    assert.deepEqual(
      log.events.map(({ index }) => index),
      Array.from({ length: count }, (_, i) => i),
    );
  });

  for (const bank of BANKS) {
    test(`the log of ${machine} replays to PCRs ${touched.join(', ')} of bank ${bank}, and touches no other`, () => {
      const replayed = replayEventLog(decodeEventLog(vector(machine, 'bios.bin'))).get(bank) ?? new Map();
      const pcrs = pcrsOf(machine, bank);
      assert.equal(pcrs.size, 24);
      assert.deepEqual(
        [...replayed.keys()].sort((a, b) => a - b),
        touched,
      );
      for (let pcr = 0; pcr < 24; pcr++) {
        if (pcr === 10) continue;
        assert.deepEqual(replayed.get(pcr) ?? initialPcr(bank, pcr), pcrs.get(pcr), `PCR ${pcr}`);
      }
    });

    test(`all that the log of ${machine} says is covered or by its type a hint, in bank ${bank}`, () => {
      const log = decodeEventLog(vector(machine, 'bios.bin'));
      const verified = verifyEventLog(log, { bank, pcrs: pcrsOf(machine, bank) }, touched);
      assert(verified.ok);
      assert.equal(verified.log.events.length, count - 1);
      assert.deepEqual(
        verified.log.events.filter(({ coverage }) => coverage === 'mismatch'),
        [],
      );
      assert.equal(bootAggregates(verified.log).length, touched.includes(8 as never) ? 2 : 1);
    });
  }
}

function secureBootEvents(): readonly MeasuredEvent[] {
  const machine = 'debian12-secureboot-vm';
  const log = decodeEventLog(vector(machine, 'bios.bin'));
  const verified = verifyEventLog(
    log,
    { bank: 'sha256', pcrs: pcrsOf(machine, 'sha256') },
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14],
  );
  assert(verified.ok);
  return verified.log.events;
}

test('the digests of the files that GRUB read are those of the kernel and the initrd', () => {
  const files = secureBootEvents().flatMap((event) => {
    const hint = hintData(event);
    return hint.kind === 'file' ? [[hint.path, event.digest, event.coverage]] : [];
  });
  assert.deepEqual(files.slice(1), [
    ['/boot/vmlinuz', '51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275', 'none'],
    ['/boot/initrd.img', '44780dfc5a3102a84f0a30d9d5b46266df81d6cfd921562219229822522aee56', 'none'],
  ]);
});

test('the kernel command line of the log is the one that the kernel got, and is covered', () => {
  const lines = secureBootEvents().flatMap((event) => {
    const [hint, covered] = [hintData(event), coveredData(event)];
    return hint.kind === 'grub' && hint.role === 'kernel_cmdline' && covered?.kind === 'grub_text'
      ? [covered.text]
      : [];
  });
  const expected = vector('debian12-secureboot-vm', 'cmdline.txt').toString().trim().replace('BOOT_IMAGE=', '');
  assert.deepEqual(lines, [expected]);
});

test('the Secure Boot variables of the log are covered: on, with keys, and by whose key shim started', () => {
  const variables = secureBootEvents().flatMap((event) => {
    const covered = coveredData(event);
    return event.pcr === 7 && covered?.kind === 'variable' ? [covered] : [];
  });
  const [secureBoot, ...others] = variables;
  assert.deepEqual(secureBoot?.value, { kind: 'switch', on: true });
  assert.deepEqual(
    others.map(({ name, value }) => [
      name,
      value.kind === 'signature_database' ? value.lists.flatMap(({ signatures }) => signatures).length : value.kind,
    ]),
    [
      ['PK', 1],
      ['KEK', 2],
      ['db', 2],
      ['dbx', 1],
      ['db', 'authority'],
      ['SbatLevel', 'text'],
      ['MokListRT', 'authority'],
    ],
  );
});
