import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { digest } from '@keylime/core/digest';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { encodeImageLoad, encodeVariable } from '@keylime/event-log/encode-data';
import fc from 'fast-check';
import { paintFor } from '../table.ts';
import { folder, runTool, type ToolRun, writeFiles } from '../tool.fixture.ts';
import { readEventLog } from './event-log-file.ts';
import type { EventLogReport } from './show-event-log.ts';
import { vectorFile } from './vectors.fixture.ts';

const SECURE = vectorFile('debian12-secureboot-vm', 'bios.bin');
const INSECURE = vectorFile('debian12-uefi-vm', 'bios.bin');

const show = (...args: readonly string[]): Promise<ToolRun> => runTool(['show', 'event-log', ...args]);
const report = async (file: string): Promise<EventLogReport> =>
  JSON.parse((await show('--json', file)).stdout) as EventLogReport;

/** Writes a log for a test. */
function logFile(directory: string, events: readonly EventToEncode[]): string {
  writeFiles(directory, { 'log.bin': encodeEventLog(['sha1', 'sha256'], events) });
  return path.join(directory, 'log.bin');
}

for (const vector of ['debian12-secureboot-vm', 'debian12-uefi-vm']) {
  test(`the PCRs that are shown for ${vector} are those that the machine had`, async () => {
    const { pcrs } = await report(vectorFile(vector, 'bios.bin'));
    assert.deepEqual(Object.keys(pcrs), ['sha1', 'sha256', 'sha384']);
    for (const [bank, values] of Object.entries(pcrs)) {
      const lines = readFileSync(vectorFile(vector, `pcrs-${bank}.txt`), 'utf8')
        .trim()
        .split('\n');
      const quoted = new Map(lines.map((line) => line.toLowerCase().split(' ') as [string, string]));
      assert.ok(Object.keys(values).length >= 9);
      for (const [pcr, value] of Object.entries(values)) assert.equal(value, quoted.get(pcr), `PCR ${pcr} of ${bank}`);
    }
  });
}

test('a boot with shim and GRUB is shown with its chain and with what its digests cover', async () => {
  const { secureBoot, bootChain, events, problems } = await report(SECURE);
  assert.equal(secureBoot.enabled, true);
  assert.deepEqual(secureBoot.databases.db, {
    certificates: ['Microsoft Windows Production PCA 2011', 'Microsoft Corporation UEFI CA 2011'],
    hashes: 0,
  });
  assert.equal(secureBoot.sbatLevel, 'sbat,1,2025021800\nshim,4\ngrub,5\n');
  assert.deepEqual(
    bootChain.map(({ role, index, covered }) => [role, index, covered]),
    [
      ['shim', 27, false],
      ['boot_loader', 33, false],
      ['kernel_file', 42, false],
      ['kernel', 43, false],
      ['kernel', 44, false],
      ['command_line', 45, true],
      ['initrd', 47, false],
    ],
  );
  // What the machine that made the disk measured: see the README of the vector.
  assert.equal(bootChain[2]?.digests.sha256, '51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275');
  assert.equal(bootChain[6]?.digests.sha256, '44780dfc5a3102a84f0a30d9d5b46266df81d6cfd921562219229822522aee56');
  assert.deepEqual([events[0]?.data, events[2]?.data, events[10]?.data], ['remark', 'hint', 'value_covered']);
  assert.deepEqual(problems, []);
});

test("a kernel that the firmware started is shown with what Linux's stub measured", async () => {
  const { secureBoot, bootChain } = await report(INSECURE);
  assert.equal(secureBoot.enabled, false);
  assert.deepEqual(
    bootChain.map(({ role, index }) => [role, index]),
    [
      ['kernel', 10],
      ['command_line', 21],
      ['initrd', 22],
    ],
  );
});

test('a forged SecureBoot is a mismatch, and the summary does not believe it', async (t) => {
  const off = encodeVariable('SecureBoot', Buffer.of(0));
  const on = encodeVariable('SecureBoot', Buffer.of(1));
  const file = logFile(folder(t), [{ pcr: 7, type: 'EV_EFI_VARIABLE_DRIVER_CONFIG', data: on, measured: off }]);
  const { events, secureBoot } = await report(file);
  assert.equal(events[1]?.data, 'mismatch');
  assert.equal(secureBoot.enabled, null);
  const { stdout } = await show(file);
  assert.match(stdout, /^1 +7 +EV_EFI_VARIABLE_DRIVER_CONFIG +mismatch +WRONG +WRONG +SecureBoot: on$/m);
  assert.match(stdout, /^Secure Boot: unknown/m);
});

test('data that the digest of one bank only covers is a mismatch', async (t) => {
  const data = Buffer.from('Exit Boot Services Invocation');
  const right = { pcr: 5, type: 'EV_EFI_ACTION', data } as const;
  const digests = new Map([
    ['sha1', Buffer.alloc(20, 1)],
    ['sha256', digest('sha256', data)],
  ] as const);
  const file = logFile(folder(t), [{ ...right, digests }, right]);
  const { events } = await report(file);
  assert.deepEqual([events[1]?.data, events[2]?.data], ['mismatch', 'covered']);
});

test('control characters and direction marks of names do not reach a terminal', async (t) => {
  const hostile = 'x\u001b]0;owned\u0007\r\n\u009b31m\u202e\u2028';
  const file = logFile(folder(t), [
    { pcr: 9, type: 'EV_IPL', data: Buffer.from(`${hostile}\0`) },
    { pcr: 8, type: 'EV_IPL', data: Buffer.from(`kernel_cmdline: ${hostile}\0`) },
    { pcr: 4, type: 'EV_EFI_ACTION', data: Buffer.from(hostile, 'latin1') },
    { pcr: 4, type: 'EV_EFI_BOOT_SERVICES_APPLICATION', data: encodeImageLoad(Buffer.from(hostile, 'latin1')) },
  ]);
  for (const args of [[file], [file, '--json']]) {
    const { code, stdout } = await show(...args);
    assert.equal(code, 0);
    assert.doesNotMatch(stdout, /[^\P{Cc}\n]|[\p{Cf}\p{Zl}\p{Zp}]/u);
  }
  const { events } = await report(file);
  assert.deepEqual(events[1]?.content, { kind: 'file', path: hostile });
});

test('mutated logs are shown, whatever is in them', async (t) => {
  const original = readFileSync(SECURE);
  const directory = folder(t);
  const mutation = fc.tuple(fc.nat(original.length - 1), fc.uint8Array({ minLength: 1, maxLength: 8 }));
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 20 }), fc.nat(original.length), async (all, cut) => {
      const log = Buffer.from(original.subarray(0, original.length - (cut % 4 === 0 ? cut : 0)));
      for (const [at, bytes] of all) log.set(bytes.subarray(0, Math.max(0, log.length - at)), Math.min(at, log.length));
      writeFiles(directory, { 'log.bin': log });
      const { code, stdout, stderr } = await show(path.join(directory, 'log.bin'));
      assert.ok(code === 0 || /is no boot event log/.test(stderr));
      assert.doesNotMatch(stdout, /[^\P{Cc}\n]/u);
    }),
    { numRuns: 60 },
  );
});

test('a damaged log is shown with its problems, each with event and byte', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { 'log.bin': readFileSync(SECURE).subarray(0, -10) });
  const { code, stdout } = await show(path.join(directory, 'log.bin'));
  assert.equal(code, 0);
  assert.match(stdout, /^50 events, 1 problems:\nevent 50 at byte \d+: record malformed/m);
});

test('a file that is no log is refused', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { empty: '', text: 'this is not a boot event log at all' });
  for (const name of ['empty', 'text']) {
    await assert.rejects(readEventLog(path.join(directory, name)), { code: 'event_log_invalid' });
  }
  await assert.rejects(readEventLog(path.join(directory, 'none')), { code: 'file_unreadable' });
});

test('colour is for terminals that want it', () => {
  const coloured = (isTTY: boolean, env: { readonly [name: string]: string }) =>
    paintFor({ isTTY }, env)('bad', 'text') !== 'text';
  assert.equal(coloured(true, { TERM: 'xterm' }), true);
  assert.equal(coloured(true, { TERM: 'xterm', NO_COLOR: '' }), true);
  assert.equal(coloured(true, { TERM: 'xterm', NO_COLOR: '1' }), false);
  assert.equal(coloured(true, { TERM: 'dumb' }), false);
  assert.equal(coloured(false, { TERM: 'xterm' }), false);
});

test('PCRs are shown where they are asked for', async () => {
  assert.match((await show(INSECURE, '--pcrs')).stdout, /^PCRs of sha384 after this log:$/m);
  assert.doesNotMatch((await show(INSECURE)).stdout, /PCRs of/);
});
