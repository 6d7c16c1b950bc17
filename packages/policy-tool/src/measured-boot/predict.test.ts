import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { digest, digestSize, extend } from '@keylime/core/digest';
import { decodeEventLog } from '@keylime/event-log/decode';
import { replayEventLog } from '@keylime/event-log/replay';
import fc from 'fast-check';
import { folder, runTool, writeFiles } from '../tool.fixture.ts';
import { BANKS, type GrubBoot, grubLog, imageOf, stubLog, unifiedLog, unifiedOf } from './boots.fixture.ts';
import { stubMagic, writePeImage } from './pe-image.fixture.ts';
import type { PredictionReport } from './prediction-report.ts';
import { vectorFile } from './vectors.fixture.ts';

const SECURE = vectorFile('debian12-secureboot-vm', 'bios.bin');

/** Runs `predict --json` on files of a folder that go by their names there. */
async function predict(
  t: TestContext,
  files: { readonly [name: string]: Buffer },
  ...args: readonly string[]
): Promise<PredictionReport> {
  const directory = folder(t);
  writeFiles(directory, files);
  const named = args.map((arg) => (arg in files ? path.join(directory, arg) : arg));
  const { code, stdout, stderr } = await runTool(['predict', '--json', ...named]);
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout) as PredictionReport;
}

/** The PCRs of all banks that a log leads to, as the report has them. */
function pcrsOf(log: Buffer): PredictionReport['pcrs'] {
  const banks = Array.from(replayEventLog(decodeEventLog(log)), ([bank, values]) => [
    bank,
    Object.fromEntries(Array.from(values, ([pcr, value]) => [pcr, value.toString('hex')])),
  ]);
  return Object.fromEntries(banks);
}

const OLD: GrubBoot = {
  kernel: imageOf('old kernel'),
  kernelPath: '/vmlinuz-6.1.0-56',
  initrd: Buffer.from('old initrd'),
  initrdPath: '/initrd.img-6.1.0-56',
  commandLine: 'root=/dev/vda1 ro quiet',
};

test('an update of kernel, initrd and command line leads to the PCRs that a boot with GRUB then has', async (t) => {
  const next: GrubBoot = {
    kernel: imageOf('new kernel'),
    kernelPath: '/vmlinuz-6.1.0-57',
    initrd: Buffer.from('new initrd'),
    initrdPath: '/initrd.img-6.1.0-57',
    commandLine: 'root=/dev/vda1 ro',
  };
  const { pcrs, changed, unknown } = await predict(
    t,
    { log: grubLog(OLD), kernel: next.kernel, initrd: next.initrd },
    ...['-e', 'log', '--kernel', 'kernel', '--initrd', 'initrd', '--initrd-path', next.initrdPath],
    ...['--cmdline', `BOOT_IMAGE=${next.kernelPath} ${next.commandLine}`],
  );
  assert.deepEqual(pcrs, pcrsOf(grubLog(next)));
  assert.deepEqual(Object.keys(changed.sha256 ?? {}), ['4', '8', '9']);
  assert.deepEqual(unknown, {});
});

test('what is installed already changes nothing', async (t) => {
  const report = await predict(
    t,
    { log: grubLog(OLD), kernel: OLD.kernel, initrd: OLD.initrd, shim: imageOf('shim'), grub: imageOf('GRUB') },
    ...['-e', 'log', '--kernel', 'kernel', '--initrd', 'initrd', '--cmdline', OLD.commandLine],
    ...['--shim', 'shim', '--boot-loader', 'grub'],
  );
  assert.deepEqual(report.changed, { sha1: {}, sha256: {} });
  assert.deepEqual(report.events, []);
});

test('the command line of a real machine as it is gives the PCRs that the machine had', async (t) => {
  const commandLine = readFileSync(vectorFile('debian12-secureboot-vm', 'cmdline.txt'), 'utf8').trim();
  const { pcrs, events } = await predict(t, {}, '-e', SECURE, '--cmdline', commandLine);
  assert.deepEqual(events, []);
  for (const [bank, values] of Object.entries(pcrs)) {
    const text = readFileSync(vectorFile('debian12-secureboot-vm', `pcrs-${bank}.txt`), 'utf8').toLowerCase();
    for (const [pcr, value] of Object.entries(values)) assert.match(text, new RegExp(`^${pcr} ${value}$`, 'm'));
  }
});

test('another command line of a real machine changes PCR 8, where GRUB says it twice, and nothing else', async (t) => {
  const { events, changed, pcrs } = await predict(t, {}, '-e', SECURE, '--cmdline', 'root=LABEL=ROOT ro');
  assert.deepEqual(
    events.map(({ index, pcr }) => [index, pcr]),
    [
      [45, 8],
      [41, 8],
    ],
  );
  assert.deepEqual(Object.keys(changed.sha384 ?? {}), ['8']);
  const texts = ['linux /boot/vmlinuz root=LABEL=ROOT ro', '/boot/vmlinuz root=LABEL=ROOT ro'];
  const log = decodeEventLog(readFileSync(SECURE));
  let value: Buffer = Buffer.alloc(digestSize('sha256'));
  for (const { index, pcr, digests } of log.events) {
    if (pcr !== 8) continue;
    const text = index === 41 ? texts[0] : index === 45 ? texts[1] : undefined;
    const measured =
      text === undefined ? Buffer.from(digests.get('sha256') ?? '', 'hex') : digest('sha256', Buffer.from(text));
    value = extend('sha256', value, measured);
  }
  assert.equal(pcrs.sha256?.[8], value.toString('hex'));
});

test('a command line is understood with the path of the kernel before it, as a reference state has it', async (t) => {
  const lines = [
    'root=LABEL=ROOT ro',
    '/boot/vmlinuz root=LABEL=ROOT ro',
    'BOOT_IMAGE=/boot/vmlinuz root=LABEL=ROOT ro',
  ];
  const predicted = await Promise.all(lines.map((line) => predict(t, {}, '-e', SECURE, '--cmdline', line)));
  const [first, ...others] = predicted.map(({ changed }) => changed);
  for (const other of others) assert.deepEqual(other, first);
});

test('a file that GRUB reads besides can change, too', async (t) => {
  const { changed, events } = await predict(
    t,
    { log: grubLog(OLD), config: Buffer.from('new grub.cfg') },
    ...['-e', 'log', '--grub-file', `/grub/grub.cfg=${vectorFile('debian12-secureboot-vm', 'cmdline.txt')}`],
  );
  assert.deepEqual(Object.keys(changed.sha256 ?? {}), ['9']);
  assert.equal(events.length, 1);
});

for (const isLogged of [true, false]) {
  const starter = isLogged ? 'systemd-boot' : 'the firmware';
  test(`an update of a kernel that ${starter} starts leads to the PCRs that it then has`, async (t) => {
    const old = { kernel: imageOf('old'), initrd: Buffer.from('old'), commandLine: 'root=LABEL=ROOT quiet' };
    const next = { kernel: imageOf('new'), initrd: Buffer.from('new'), commandLine: 'root=LABEL=ROOT' };
    const { pcrs, unknown } = await predict(
      t,
      { log: stubLog(old, isLogged), kernel: next.kernel, initrd: next.initrd },
      ...['-e', 'log', '--kernel', 'kernel', '--initrd', 'initrd', '--cmdline', next.commandLine],
      ...(isLogged ? [] : ['--current-cmdline', old.commandLine]),
    );
    assert.deepEqual(pcrs, pcrsOf(stubLog(next, isLogged)));
    assert.deepEqual(unknown, {});
  });
}

test('PCR 9 is unknown where only a digest of the command line of now is there', async (t) => {
  const log = stubLog({ kernel: imageOf('old'), initrd: Buffer.from('old'), commandLine: 'quiet' }, false);
  const { unknown, pcrs } = await predict(t, { log }, '-e', 'log', '--cmdline', 'debug');
  assert.deepEqual(Object.keys(unknown), ['9']);
  assert.equal(pcrs.sha256?.[9], undefined);
  const wrong = await predict(t, { log }, '-e', 'log', '--cmdline', 'debug', '--current-cmdline', 'loud');
  assert.match(wrong.unknown[9] ?? '', /event 2 is of another command line than loud/);
});

const OLD_SECTIONS = { '.linux': imageOf('old'), '.osrel': 'ID=debian', '.cmdline': 'quiet', '.initrd': 'old initrd' };
const NEW_SECTIONS = { '.initrd': 'new initrd', '.linux': imageOf('new'), '.osrel': 'ID=other', '.cmdline': 'quiet' };

test('another unified kernel image leads to the PCRs of a boot from it', async (t) => {
  const { pcrs, phases, unknown, changed } = await predict(
    t,
    { log: unifiedLog(OLD_SECTIONS), uki: unifiedOf(NEW_SECTIONS) },
    ...['-e', 'log', '--uki', 'uki'],
  );
  assert.deepEqual(unknown, {});
  assert.deepEqual(pcrs, pcrsOf(unifiedLog(NEW_SECTIONS)));
  assert.deepEqual(Object.keys(changed.sha1 ?? {}), ['4', '9', '11']);
  let ready: Buffer = Buffer.from(pcrs.sha256?.[11] ?? '', 'hex');
  for (const phase of ['enter-initrd', 'leave-initrd', 'sysinit', 'ready']) {
    ready = extend('sha256', ready, digest('sha256', Buffer.from(phase)));
  }
  assert.equal(phases.sha256?.['enter-initrd:leave-initrd:sysinit:ready'], ready.toString('hex'));
});

test('a command line in the image that systemd-boot passes on changes with the image', async (t) => {
  const next = { ...NEW_SECTIONS, '.cmdline': 'debug' };
  const { pcrs, unknown, changed } = await predict(
    t,
    { log: unifiedLog(OLD_SECTIONS, 'quiet'), uki: unifiedOf(next) },
    ...['-e', 'log', '--uki', 'uki'],
  );
  assert.deepEqual(unknown, {});
  assert.deepEqual(pcrs, pcrsOf(unifiedLog(next, 'debug')));
  assert.deepEqual(Object.keys(changed.sha256 ?? {}), ['4', '9', '11', '12']);
  const other = await predict(
    t,
    { log: unifiedLog(OLD_SECTIONS, 'loud'), uki: unifiedOf(next) },
    ...['-e', 'log', '--uki', 'uki'],
  );
  assert.deepEqual(other.pcrs, pcrsOf(unifiedLog(next, 'loud')));
});

test('another command line that systemd-boot passes to a unified kernel image changes PCRs 9 and 12', async (t) => {
  const { '.cmdline': _, ...sections } = OLD_SECTIONS;
  const { pcrs, changed } = await predict(
    t,
    { log: unifiedLog(sections, 'quiet'), uki: unifiedOf(sections) },
    ...['-e', 'log', '--uki', 'uki', '--cmdline', 'debug'],
  );
  assert.deepEqual(pcrs, pcrsOf(unifiedLog(sections, 'debug')));
  assert.deepEqual(Object.keys(changed.sha256 ?? {}), ['9', '12']);
});

test('PCR 9 is unknown where systemd-stub adds files to the initrd', async (t) => {
  const { unknown, pcrs } = await predict(
    t,
    { log: unifiedLog(OLD_SECTIONS), uki: unifiedOf({ ...NEW_SECTIONS, '.pcrpkey': 'key' }) },
    ...['-e', 'log', '--uki', 'uki'],
  );
  assert.deepEqual(Object.keys(unknown), ['9']);
  assert.equal(pcrs.sha256?.[11], pcrsOf(unifiedLog({ ...NEW_SECTIONS, '.pcrpkey': 'key' })).sha256?.[11]);
});

test('another profile of a unified kernel image changes PCR 11, and PCR 12 by its number', async (t) => {
  const uki = unifiedOf({ ...NEW_SECTIONS, '.profile': 'ID=main' }, '257');
  const args = ['-e', 'log', '--uki', 'uki', '--profile'];
  const { pcrs } = await predict(t, { log: unifiedLog(NEW_SECTIONS), uki }, ...args, '0');
  assert.equal(pcrs.sha256?.[12], undefined);
  const both = writePeImage([
    stubMagic('257'),
    ...Object.entries(NEW_SECTIONS).map(([name, content]) => ({ name, content: Buffer.from(content) })),
    { name: '.profile', content: Buffer.from('ID=main') },
    { name: '.profile', content: Buffer.from('ID=debug') },
  ]);
  const second = await predict(t, { log: unifiedLog(NEW_SECTIONS), uki: both }, ...args, '1');
  const number = digest('sha256', Buffer.from('1\0', 'utf16le'));
  assert.equal(second.pcrs.sha256?.[12], extend('sha256', Buffer.alloc(32), number).toString('hex'));
  assert.notEqual(second.pcrs.sha256?.[11], pcrs.sha256?.[11]);
  const passed = await predict(t, { log: unifiedLog(NEW_SECTIONS, 'quiet'), uki: both }, ...args, '1');
  assert.ok('12' in passed.unknown);
});

test('PCR 11 of a unified kernel image is told without a log', async (t) => {
  const { pcrs, banks } = await predict(t, { uki: unifiedOf(NEW_SECTIONS) }, '--no-log', '--uki', 'uki');
  assert.deepEqual(banks, ['sha1', 'sha256', 'sha384', 'sha512']);
  for (const bank of BANKS) assert.equal(pcrs[bank]?.[11], pcrsOf(unifiedLog(NEW_SECTIONS))[bank]?.[11]);
});

const failure = async (t: TestContext, files: { readonly [name: string]: Buffer }, ...args: readonly string[]) => {
  const directory = folder(t);
  writeFiles(directory, files);
  const named = args.map((arg) => (arg in files ? path.join(directory, arg) : arg));
  const { code, stdout, stderr } = await runTool(['predict', ...named]);
  assert.equal(stdout, '');
  return { code, stderr };
};

test('an update that cannot be put into the log is refused, with what to do', async (t) => {
  const grub = grubLog(OLD);
  const kernel = imageOf('new');
  const uki = unifiedOf(NEW_SECTIONS);
  const cases: readonly [readonly string[], number, RegExp][] = [
    [['-e', 'grub'], 2, /Name what will be installed/],
    [['-e', 'grub', '--uki', 'uki'], 1, /--no-log gives its PCR 11/],
    [['-e', 'unified', '--kernel', 'kernel'], 2, /name the new one with --uki/],
    [['-e', 'grub', '--uki', 'uki', '--kernel', 'kernel'], 2, /--uki is without --kernel/],
    [['-e', 'grub', '--kernel', 'grub'], 1, /is no EFI image/],
    [['-e', 'grub', '--uki', 'kernel'], 1, /it is no unified kernel image/],
    [['-e', 'grub', '--initrd', 'kernel', '--initrd', 'kernel'], 2, /GRUB reads 1 initrds, 2 given/],
    [['-e', 'grub', '--grub-file', '/none=/dev/null'], 2, /shows no file \/none/],
    [['-e', 'stub', '--shim', 'kernel'], 1, /must show one shim .*; it shows none/],
    [['-e', 'damaged', '--kernel', 'kernel'], 1, /The log is damaged \(event \d+ at byte \d+/],
    [['--no-log', '--kernel', 'kernel'], 2, /--no-log is for --uki/],
    [['-e', 'grub', '--uki', 'uki', '--profile', '1'], 2, /there is none with number 1/],
  ];
  const stub = stubLog({ kernel, initrd: kernel, commandLine: 'quiet' }, false);
  const damaged = grub.subarray(0, -3);
  const files = { grub, stub, damaged, kernel, uki, unified: unifiedLog(OLD_SECTIONS) };
  for (const [args, code, message] of cases) {
    const failed = await failure(t, files, ...args);
    assert.match(failed.stderr, message);
    assert.equal(failed.code, code, failed.stderr);
  }
});

test('for a person the values come by bank, with events and notes', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { log: grubLog(OLD), kernel: imageOf('new') });
  const args = ['-e', path.join(directory, 'log'), '--kernel', path.join(directory, 'kernel')];
  const { stdout } = await runTool(['predict', ...args]);
  assert.match(stdout, /^PCR 4 +event 7 +[0-9a-f]{64} +kernel$/m);
  assert.match(stdout, /^PCRs of sha256 that change:\n +4 [0-9a-f]{64}\n +9 [0-9a-f]{64}$/m);
});

test('mutated logs are put an update into or refused, whatever is in them', async (t) => {
  const original = readFileSync(SECURE);
  const directory = folder(t);
  const log = path.join(directory, 'log');
  const mutation = fc.tuple(fc.nat(original.length - 1), fc.uint8Array({ minLength: 1, maxLength: 8 }));
  await fc.assert(
    fc.asyncProperty(fc.array(mutation, { minLength: 1, maxLength: 12 }), async (all) => {
      const bytes = Buffer.from(original);
      for (const [at, content] of all) bytes.set(content.subarray(0, bytes.length - at), at);
      writeFiles(directory, { log: bytes });
      for (const command of [
        ['predict', '-e', log, '--cmdline', 'quiet', '--initrd', log],
        ['create', 'measured-boot', '-i', '-e', log],
      ]) {
        const { code, stdout, stderr } = await runTool(command);
        assert.ok(code === 0 || (stdout === '' && stderr.includes('keylime-policy: ')), stderr);
      }
    }),
    { numRuns: 60 },
  );
});
