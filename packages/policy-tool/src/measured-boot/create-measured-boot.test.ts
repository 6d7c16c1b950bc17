import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { encode } from '@keylime/core/codec';
import type { HashAlgorithm } from '@keylime/core/digest';
import { hintBytes } from '@keylime/event-log/coverage';
import { decodeEventLog } from '@keylime/event-log/decode';
import { type EventToEncode, encodeEventLog } from '@keylime/event-log/encode';
import { encodeVariable } from '@keylime/event-log/encode-data';
import { guid, VARIABLE_GUIDS } from '@keylime/event-log/guid';
import { example } from '@keylime/measured-boot/example';
import type { StrictReferenceJson } from '@keylime/measured-boot/reference-json';
import { strict } from '@keylime/measured-boot/strict';
import { folder, runTool, type ToolRun, writeFiles } from '../tool.fixture.ts';
import { judgeReference } from './judge-reference.ts';
import { vectorFile } from './vectors.fixture.ts';

const SECURE = vectorFile('debian12-secureboot-vm', 'bios.bin');
const INSECURE = vectorFile('debian12-uefi-vm', 'bios.bin');

const create = (...args: readonly string[]): Promise<ToolRun> => runTool(['create', 'measured-boot', ...args]);

async function reference(...args: readonly string[]): Promise<StrictReferenceJson> {
  const { code, stdout, stderr } = await create(...args);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as StrictReferenceJson;
}

const judge = (made: StrictReferenceJson, log: Buffer, bank: HashAlgorithm = 'sha256') =>
  judgeReference(strict, made, decodeEventLog(log), bank);

type Change = (events: EventToEncode[], at: (index: number) => EventToEncode) => readonly EventToEncode[];

/** The log of the machine with Secure Boot, had it measured `change` of its events; `index` counts as in the log. */
function changed(change: Change): Buffer {
  const events = decodeEventLog(readFileSync(SECURE))
    .events.slice(1)
    .map((event) => ({
      pcr: event.pcr,
      type: event.typeId,
      data: hintBytes(event),
      digests: new Map(Array.from(event.digests, ([bank, hex]) => [bank, Buffer.from(hex, 'hex')])),
    }));
  const at = (index: number): EventToEncode => {
    const event = events[index - 1];
    assert(event);
    return event;
  };
  return encodeEventLog(['sha1', 'sha256', 'sha384'], change(events, at));
}

const replacing = (index: number, event: Partial<EventToEncode>): Buffer =>
  changed((events, at) => {
    const { digests: _, ...old } = at(index);
    return events.toSpliced(index - 1, 1, { ...old, ...event });
  });

const without = (...indexes: readonly number[]): Buffer =>
  changed((events) => events.filter((_, i) => !indexes.includes(i + 1)));

function fileOf(t: TestContext, log: Buffer): string {
  const directory = folder(t);
  writeFiles(directory, { 'log.bin': log });
  return path.join(directory, 'log.bin');
}

const LINE = '/boot/vmlinuz root=LABEL=ROOT rw console=ttyS0 ima_policy=tcb ima_hash=sha256 quiet';

/** Another command line, as GRUB measures it: the command that loads the kernel, and the line. */
const withLine = (line: string): Buffer =>
  changed((events, at) => {
    const text = (index: number, prefix: string, name: string): EventToEncode => ({
      pcr: at(index).pcr,
      type: 'EV_IPL',
      data: Buffer.from(`${prefix}${name}${line}\0`),
      measured: Buffer.from(`${name}${line}`),
    });
    return events.with(40, text(41, 'grub_cmd: ', 'linux ')).with(44, text(45, 'kernel_cmdline: ', ''));
  });

test('the reference state of a real machine has what the machine measured, and accepts its boot', async () => {
  const made = await reference('-e', SECURE);
  assert.equal(made.has_secureboot, true);
  assert.deepEqual([made.pk.length, made.kek.length, made.db.length, made.dbx.length], [1, 2, 2, 1]);
  assert.deepEqual(
    [made.mokdig.length, made.mokxdig.length, made.scrtm_and_bios[0]?.platform_firmware.length],
    [1, 1, 2],
  );
  const [{ digests: _, ...kernel } = {}] = made.kernels;
  assert.deepEqual(kernel, {
    shim_authcode_sha256: '0x80a66d53a945d2286fcadd780fae1c225aa732079cd67b5225dc78aaab4e2ff8',
    grub_authcode_sha256: '0xa68f6d71ebddaa19751ff8d729f67d11b0df8e4c49400c3e7e90de16119e1265',
    kernel_authcode_sha256: '0x5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31',
    vmlinuz_plain_sha256: '0x51349501a3d1ff83836437d2b365fd2d57f2feb8642d315e5181dec23d4c3275',
    initrd_plain_sha256: '0x44780dfc5a3102a84f0a30d9d5b46266df81d6cfd921562219229822522aee56',
    kernel_cmdline: LINE.replaceAll(' ', '\\ '),
  });
  assert.deepEqual(judge(made, readFileSync(SECURE)), []);
});

const SHIM = VARIABLE_GUIDS.shimLock;
const shimVariable = (name: string, data: Buffer): Buffer => encodeVariable(name, data, { owner: SHIM });

test('the reference state says who may have signed images, and which SbatLevel is the least', async () => {
  const made = await reference('-e', SECURE);
  const authorities = made.authorities ?? [];
  assert.deepEqual(
    authorities.map(({ variable, SignatureOwner }) => [variable, SignatureOwner]),
    [
      ['db', '77fa9abd-0359-4d32-bd60-28f4e78f784b'],
      ['MokListRT', '605dab50-e046-4300-abb6-3dd810dd8b23'],
    ],
  );
  assert.ok(made.db.some(({ SignatureData }) => SignatureData === authorities[0]?.SignatureData));
  assert.equal(made.sbat_level, 'sbat,1,2025021800\nshim,4\ngrub,5\n');
  const { authorities: _, sbat_level: __, ...open } = made;
  const rollback = shimVariable('SbatLevel', Buffer.from('sbat,1,2021030218\n'));
  const other = shimVariable('MokListRT', Buffer.concat([encode(guid, SHIM), Buffer.from('another certificate')]));
  for (const [index, data, reason] of [
    [30, rollback, 'sbat_level_too_low'],
    [32, other, 'authority_unexpected'],
  ] as const) {
    const log = replacing(index, { data });
    assert.deepEqual(
      judge(made, log).map((violation) => [violation.reason, violation.event]),
      [[reason, index]],
    );
    assert.deepEqual(judge(open, log), [], 'nothing else refuses it');
  }
  const example = await reference('-e', SECURE, '--policy', 'example');
  assert.deepEqual([example.authorities, example.sbat_level], [undefined, undefined]);
});

test('what a log says nothing of is left open, and told', async (t) => {
  const left = async (...args: readonly string[]) => {
    const { code, stderr } = await create(...args);
    assert.equal(code, 0, stderr);
    return stderr.split('\n').flatMap((line) => / - WARNING - \S+: (.*)/.exec(line)?.[1] ?? []);
  };
  assert.deepEqual(await left('-e', SECURE), []);
  assert.deepEqual(await left('-e', fileOf(t, without(30))), [
    'shim measured no SbatLevel, or there is no shim: sbat_level is left open; older shims pass',
  ]);
  assert.deepEqual(await left('--force', '-e', fileOf(t, without(25, 32))), [
    'no event tells who signed the images: authorities are left open; db, vendor_db and shim decide',
  ]);
  assert.deepEqual(await left('-i', '-e', INSECURE), [
    'Secure Boot is off, nobody checked a signature: authorities and sbat_level are left open',
  ]);
  assert.deepEqual(await left('-e', fileOf(t, without(30)), '--policy', 'example'), []);
});

test('a SbatLevel whose data is not what was measured is not taken', async (t) => {
  const data = shimVariable('SbatLevel', Buffer.from('sbat,1,2026010100\n'));
  const log = replacing(30, { data, measured: Buffer.from('another') });
  const { stdout } = await create('--force', '-e', fileOf(t, log));
  assert.equal(JSON.parse(stdout).sbat_level, undefined);
});

test('a reference state accepts the boot in every bank that it is made for, and in no other', async () => {
  const made = await reference('-e', SECURE, '--hash-alg', 'sha384', '--hash-alg', 'sha256');
  for (const bank of ['sha256', 'sha384'] as const) assert.deepEqual(judge(made, readFileSync(SECURE), bank), []);
  assert.equal(judge(made, readFileSync(SECURE), 'sha1')[0]?.reason, 'bank_not_in_reference');
  const only = await reference('-e', SECURE, '--hash-alg', 'sha384');
  assert.equal(judge(only, readFileSync(SECURE))[0]?.reason, 'bank_not_in_reference');
});

test('what the reference state does not say is refused', async () => {
  const made = await reference('-e', SECURE);
  const reasons = (log: Buffer) => judge(made, log).map(({ reason }) => reason);
  assert.deepEqual(reasons(withLine(`${LINE} init=/bin/sh`)).slice(0, 1), ['kernel_cmdline_unexpected']);
  assert.deepEqual(reasons(replacing(47, { measured: Buffer.from('another initrd') })), ['initrd_unexpected']);
  assert.deepEqual(reasons(replacing(38, { measured: Buffer.from('another grub.cfg') })), [
    'file_unexpected',
    'event_missing',
  ]);
  assert.deepEqual(reasons(replacing(26, { measured: Buffer.from('another GPT') })), ['event_data_not_measured']);
});

test('a machine without Secure Boot has a reference state only where it is said that it may be off', async () => {
  const refused = await create('-e', INSECURE);
  assert.equal(refused.code, 1);
  assert.equal(refused.stdout, '');
  assert.match(refused.stderr, /Secure Boot is off in the log: .* --without-secureboot/);
  const made = await reference('-i', '-e', INSECURE);
  assert.equal(made.has_secureboot, false);
  assert.deepEqual(judge(made, readFileSync(INSECURE)), []);
  const warned = await create('-i', '-e', SECURE);
  assert.equal(warned.code, 0);
  assert.match(warned.stderr, /WARNING.*--without-secureboot is not needed/);
});

test('a log that misses an event gives an error that names it, and no reference state', async (t) => {
  const cases: readonly [Buffer, RegExp][] = [
    [without(4), /no EV_EFI_VARIABLE_DRIVER_CONFIG of SecureBoot in PCR 7 that its digest covers/],
    [without(8), /no EV_EFI_VARIABLE_DRIVER_CONFIG of dbx in PCR 7/],
    [without(27, 33, 43, 44), /no EV_EFI_BOOT_SERVICES_APPLICATION in PCR 4/],
    [without(45), /no command line of the kernel, neither of GRUB \(PCR 8\)/],
    [without(9), /PCR 7: separator missing, .*would refuse the boot for 2 reasons: nothing is written/s],
    [readFileSync(SECURE).subarray(0, -3), /The log is damaged \(event 50 at byte \d+/],
  ];
  for (const [log, message] of cases) {
    const { code, stdout, stderr } = await create('-e', fileOf(t, log));
    assert.deepEqual([code, stdout], [1, '']);
    assert.match(stderr, message);
  }
  const { stderr } = await create('-e', SECURE, '--hash-alg', 'sha512');
  assert.match(stderr, /The log has no digests of sha512: choose of sha1, sha256, sha384/);
});

test('attack: nothing is taken from data that its digest does not cover', async (t) => {
  const off = encodeVariable('SecureBoot', Buffer.of(0));
  const forgedSwitch = await create('-e', fileOf(t, replacing(4, { measured: off })));
  assert.equal(forgedSwitch.code, 1);
  assert.match(forgedSwitch.stderr, /no EV_EFI_VARIABLE_DRIVER_CONFIG of SecureBoot in PCR 7 that its digest covers/);
  assert.match(
    forgedSwitch.stderr,
    /the data of event 4 \(EV_EFI_VARIABLE_DRIVER_CONFIG, PCR 7\) is not what was measured/,
  );
  const forgedLine = await create('-e', fileOf(t, replacing(45, { measured: Buffer.from(`${LINE} init=/bin/sh`) })));
  assert.equal(forgedLine.code, 1);
  assert.match(forgedLine.stderr, /The command line of event 45 is not what was measured/);
});

test('what no rule accepts is told with its event, and taken where the operator says so', async (t) => {
  const debug = { pcr: 1, type: 'EV_S_CRTM_VERSION', data: Buffer.from('1.0'), measured: Buffer.from('2.0') } as const;
  const file = fileOf(
    t,
    changed((events) => events.toSpliced(9, 0, debug)),
  );
  const { code, stdout, stderr } = await create('-e', file);
  assert.deepEqual([code, stdout], [1, '']);
  assert.match(stderr, /ERROR.*event 10 \(EV_S_CRTM_VERSION, PCR 1: 1\.0\): event data not measured/);
  const listed = await reference('-e', file, '--list', '10');
  assert.deepEqual(judge(listed, readFileSync(file)), []);
  const forced = await create('-e', file, '--force');
  assert.equal(forced.code, 0);
  assert.match(forced.stderr, /event data not measured/);
});

test('a machine that does not log ExitBootServices needs it to be optional', async (t) => {
  const file = fileOf(t, without(49, 50));
  const { code, stderr } = await create('-e', file);
  assert.equal(code, 1);
  assert.match(stderr, /PCR 5: exit boot services missing/);
  const made = await reference('-e', file, '--optional', 'exit_boot_services');
  assert.equal(made.exit_boot_services, 'optional');
});

test('boot variables that may differ are not listed', async () => {
  const made = await reference('-e', SECURE, '--unlisted', 'boot_variables', '--unlisted', 'gpt');
  assert.deepEqual([made.digests, made.unlisted], [undefined, ['boot_variables', 'gpt']]);
  assert.deepEqual(judge(made, readFileSync(SECURE)), []);
});

test('several logs make alternatives, each of which is accepted', async (t) => {
  const other = withLine(`${LINE} audit=1`);
  const made = await reference('-e', SECURE, '-e', fileOf(t, other), '-e', SECURE);
  assert.deepEqual([made.kernels.length, made.scrtm_and_bios.length, made.db.length], [2, 1, 2]);
  for (const log of [readFileSync(SECURE), other]) assert.deepEqual(judge(made, log), []);
  assert.notDeepEqual(judge(made, withLine(`${LINE} audit=0`)), []);
  const mixed = await create('-i', '-e', SECURE, '-e', INSECURE);
  assert.equal(mixed.code, 1);
  assert.match(mixed.stderr, /Secure Boot is on in one boot and off in another/);
});

test('a boot is added to a reference state that keeps what else it says', async (t) => {
  const directory = folder(t);
  const made = await reference('-e', SECURE);
  writeFiles(directory, {
    'base.json': JSON.stringify({ ...made, grub_commands: ['echo .*'] }),
    'other.bin': withLine(`${LINE} audit=1`),
    'wrong.json': '{"kernels": 1}',
  });
  const base = path.join(directory, 'base.json');
  const added = await reference('-b', base, '-e', path.join(directory, 'other.bin'));
  assert.deepEqual([added.kernels.length, added.grub_commands], [2, ['echo .*']]);
  const wrong = await create('-b', path.join(directory, 'wrong.json'), '-e', SECURE);
  assert.equal(wrong.code, 1);
  assert.match(wrong.stderr, /wrong\.json is no reference state of the policy strict: .*kernels/);
});

test('a planned update is added to a reference state before the machine boots it', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { 'old.json': JSON.stringify(await reference('-e', SECURE)) });
  const [old, next] = [path.join(directory, 'old.json'), path.join(directory, 'next.json')];
  const line = LINE.replace('/boot/vmlinuz ', '');
  const args = ['-e', SECURE, '--cmdline', `${line} audit=1`, '-r', old, '-o', next];
  const { code, stderr } = await runTool(['predict', ...args]);
  assert.equal(code, 0, stderr);
  const made = JSON.parse(readFileSync(next, 'utf8')) as StrictReferenceJson;
  for (const log of [readFileSync(SECURE), withLine(`${LINE} audit=1`)]) assert.deepEqual(judge(made, log), []);
  assert.notDeepEqual(judge(made, withLine(`${LINE} audit=0`)), []);
});

test('a planned update is added to a reference state of the policy example', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { 'old.json': JSON.stringify(await reference('--policy', 'example', '-e', SECURE)) });
  const [old, next] = [path.join(directory, 'old.json'), path.join(directory, 'next.json')];
  const args = ['-e', SECURE, '--cmdline', 'quiet', '--policy', 'example', '-r', old, '-o', next];
  const { code, stderr } = await runTool(['predict', ...args]);
  assert.equal(code, 0, stderr);
  const { kernels } = JSON.parse(readFileSync(next, 'utf8')) as StrictReferenceJson;
  assert.deepEqual(
    kernels.map(({ kernel_cmdline }) => kernel_cmdline),
    [LINE.replaceAll(' ', '\\ '), '/boot/vmlinuz\\ quiet'],
  );
});

test('no reference state is made of a boot that cannot be told', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { 'old.json': JSON.stringify(await reference('-i', '-e', INSECURE)) });
  const [old, next] = [path.join(directory, 'old.json'), path.join(directory, 'next.json')];
  const { code, stderr } = await runTool(['predict', '-e', INSECURE, '--cmdline', 'quiet', '-r', old, '-o', next]);
  assert.equal(code, 1);
  assert.match(stderr, /whose PCR 9 is unknown: .* --current-cmdline/);
  const usage = await runTool(['predict', '-e', INSECURE, '--cmdline', 'quiet', '-o', next]);
  assert.equal(usage.code, 2);
});

test('a reference state of the policy example has the members that verifiers of every version read', async (t) => {
  const made = await reference('--policy', 'example', '-e', SECURE);
  const { kernels, digests } = await reference('-e', SECURE);
  assert.deepEqual(Object.keys(made), [
    ...['has_secureboot', 'scrtm_and_bios', 'pk', 'kek', 'db', 'dbx', 'vendor_db', 'mokdig', 'mokxdig', 'kernels'],
  ]);
  assert.deepEqual(
    made.kernels,
    kernels.map(({ digests: _, ...known }) => known),
  );
  assert.notEqual(digests, undefined);
  assert.deepEqual(judgeReference(example, made, decodeEventLog(readFileSync(SECURE)), 'sha256'), []);
  assert.notDeepEqual(judgeReference(example, made, decodeEventLog(withLine(`${LINE} audit=0`)), 'sha256'), []);

  const other = await create('-i', '--policy', 'example', '-e', INSECURE);
  assert.equal(other.code, 1);
  assert.match(other.stderr, /make this one with --policy strict/);
  const locality = { pcr: 0, type: 'EV_NO_ACTION', data: Buffer.from('StartupLocality\0\0') } as const;
  const refused = await create(
    '--policy',
    'example',
    '-e',
    fileOf(
      t,
      changed((events) => [locality, ...events]),
    ),
  );
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /event 1 \(EV_NO_ACTION, PCR 0: .*\): remark unexpected/);
});
