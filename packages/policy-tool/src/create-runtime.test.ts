import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { computedKeyId } from '@keylime/ima/public-key';
import { cpioArchive } from './archive/archives.fixture.ts';
import { folder, policyOf, runTool, sha256, skipWithout, writeFiles } from './tool.fixture.ts';

const D = '5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03';
const BUFFER = '88115f63f71eb6dedc4baa6c721328aed8c725b85a5e3ab3ba4b80082b7b8724';
const HASH = 'ed93d318c7e44ae2d4b98c71c44e7c5caf4bd086';
const LIST = [
  `10 ${HASH} ima-ng sha256:${D} boot_aggregate`,
  `10 ${HASH} ima-ng sha256:${D} /opt/demo/hello`,
  `10 ${HASH} ima-sig sha256:${D} /opt/signed `,
  `10 ${'0'.repeat(40)} ima-ng sha256:${'0'.repeat(64)} /violation`,
  `10 ${HASH} ima-buf sha256:${BUFFER} kernel_info 6b65726e656c5f76657273696f6e3d362e393b`,
  '',
].join('\n');
const NOBODY = 65534;
const BASE = {
  meta: { version: 1, generator: 2 },
  release: 7,
  digests: { '/base': [D] },
  excludes: ['/z'],
  keyrings: {},
  ima: { ignored_keyrings: ['k'], log_hash_alg: 'sha256', dm_policy: null },
  'ima-buf': {},
  'verification-keys': '',
};
const META = '"meta": {"version": 1, "generator": 3, "timestamp": "2026-02-03 10:11:12.345000"}';

/** Runs `create runtime` in a folder with these files; `@name` in the arguments is a file of the folder. */
async function create(
  t: import('node:test').TestContext,
  files: { readonly [name: string]: string | Buffer },
  ...args: readonly string[]
) {
  const directory = folder(t);
  writeFiles(directory, files);
  return runTool(['create', 'runtime', ...args.map((arg) => arg.replace(/^@/, `${directory}/`))]);
}

test('without a source the policy is empty, in the members and separators of the existing tool', async (t) => {
  const { code, stdout, stderr } = await create(t, {});
  assert.equal(code, 0);
  assert.match(stderr, /WARNING - The policy allows nothing: no source was given/);
  assert.equal(
    stdout,
    `{${META}, "release": 0, "digests": {}, "excludes": [], "keyrings": {}, "ima": {"ignored_keyrings": [], "log_hash_alg": "sha1", "dm_policy": null}, "ima-buf": {}, "verification-keys": ""}`,
  );
});

test('a measurement list gives digests; violations are left out, buffers wait to be asked for', async (t) => {
  const plain = await create(t, { list: LIST }, '-m', '@list');
  assert.equal(plain.code, 0, plain.stderr);
  assert.deepEqual(policyOf(plain).digests, { boot_aggregate: [D], '/opt/demo/hello': [D], '/opt/signed': [D] });
  assert.deepEqual(policyOf(plain)['ima-buf'], {});
  assert.match(plain.stderr, /Using digest algorithm 'sha256' obtained from the IMA measurement list/);
  assert.match(plain.stderr, /Skipped 1: violations .*\/violation/);
  const buffers = await create(t, { list: LIST }, '-m', '@list', '-b');
  assert.deepEqual(policyOf(buffers)['ima-buf'], { kernel_info: [BUFFER] });
});

test('keys in a measurement list become keyrings if that is wanted and they are not ignored', async (t) => {
  const key = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey.export({ format: 'der', type: 'spki' });
  const list = `10 ${HASH} ima-ng sha256:${D} boot_aggregate\n10 ${HASH} ima-buf sha256:${sha256(key)} .ima ${key.toString('hex')}\n`;
  const keyringsOf = async (...args: readonly string[]) => policyOf(await create(t, { list }, '-m', '@list', ...args));
  assert.deepEqual((await keyringsOf('-b')).keyrings, {});
  assert.deepEqual((await keyringsOf('-b'))['ima-buf'], {});
  assert.deepEqual((await keyringsOf('-k')).keyrings, { '.ima': [sha256(key)] });
  assert.deepEqual((await keyringsOf('-k', '--ignored-keyrings', '.ima')).keyrings, {});
});

test('files of all templates are taken, MD5 digests are not', async (t) => {
  const list = [
    `10 ${HASH} ima ${'a'.repeat(40)} boot_aggregate`,
    `10 ${HASH} ima-ngv2 ima:sha256:${D} /ngv2`,
    `10 ${HASH} ima-sigv2 verity:sha256:${D} /sigv2 `,
    `10 ${HASH} ima-ng md5:${'b'.repeat(32)} /md5`,
  ].join('\n');
  const made = await create(t, { list }, '-m', '@list');
  assert.deepEqual(policyOf(made).digests, { boot_aggregate: ['a'.repeat(40)], '/ngv2': [D], '/sigv2': [D] });
  assert.match(made.stderr, /Skipped 1: MD5 digests/);
});

for (const [what, list] of [
  ['that does not begin with boot_aggregate', `10 ${HASH} ima-ng sha256:${D} /x\n`],
  [
    'whose boot_aggregate is of an algorithm that no policy has',
    `10 ${HASH} ima-ng md5:${'a'.repeat(32)} boot_aggregate\n`,
  ],
  ['that is none', 'hello\n'],
] as const) {
  test(`a list ${what} is refused`, async (t) => {
    const { code, stdout, stderr } = await create(t, { list }, '-m', '@list');
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /Invalid digest algorithm found in the IMA measurement list\n.*Aborting operation/);
  });
}

test('lines that cannot be read are counted, and with --fail-on-skip nothing is written', async (t) => {
  const list = `${LIST}garbage \u001b[31m\n`;
  const lenient = await create(t, { list }, '-m', '@list');
  assert.equal(lenient.code, 0);
  assert.match(lenient.stderr, /WARNING - Skipped 1: lines of the measurement list that cannot be read .*5: garbage/);
  assert.ok(!lenient.stderr.includes('\u001b'));
  const strict = await create(t, { list }, '-m', '@list', '--fail-on-skip');
  assert.equal(strict.code, 1);
  assert.equal(strict.stdout, '');
  assert.equal((await create(t, { list: LIST }, '-m', '@list', '--fail-on-skip')).code, 0);
});

test('allowlist, exclude list and base policy are merged, sorted and without duplicates', async (t) => {
  const f = 'f'.repeat(64);
  const made = await create(
    t,
    {
      base: JSON.stringify({ ...BASE, packages: { [D]: 'hello 1.0' } }),
      allow: `${f}  /x/y z\n${D} /x/y_z\n${D} /x/y_z\n\n${D}\n${f} /base\n`,
      excludes: '/tmp/.*\r\n\n/var/[a-z]+\n/tmp/.*\n# c\n',
    },
    ...['-p', '@base', '-a', '@allow', '-e', '@excludes'],
  );
  assert.equal(
    made.stdout,
    `{${META}, "release": 7, "digests": {"/base": ["${D}", "${f}"], "/x/y_z": ["${D}", "${f}"]}, "excludes": ["# c", "/tmp/.*", "/var/[a-z]+", "/z"], "keyrings": {}, "ima": {"ignored_keyrings": ["k"], "log_hash_alg": "sha256", "dm_policy": null}, "ima-buf": {}, "verification-keys": "", "packages": {"${D}": "hello 1.0"}}`,
  );
  assert.match(made.stderr, /Line 5 of the exclude list is a pattern, not a comment/);
});

for (const [what, files, args, message] of [
  ['an exclude that cannot be used', { e: '/ok\n(a\n' }, ['-e', '@e'], /line 2, "\(a": /],
  [
    'an allowlist with a line that has no digest',
    { a: `${D} /a\nhello /x\n` },
    ['-a', '@a'],
    /Line 2 of the allowlist/,
  ],
  [
    'an allowlist of digests of another tool',
    { a: `sha256:${D} /a\n` },
    ['-a', '@a'],
    /Invalid digest algorithm found in the allowlist/,
  ],
  ['a base policy that is not JSON', { p: 'x' }, ['-p', '@p'], /is not JSON/],
  [
    'a base policy with digests that are none',
    { p: '{"digests": {"/x": ["SHA"]}}' },
    ['-p', '@p'],
    /Invalid digest algorithm found in the base policy/,
  ],
  [
    'a base policy with one digest that is none',
    { p: `{"digests": {"/x": ["${D}", "no"]}}` },
    ['-p', '@p'],
    /would not be valid: 'no' does not match/,
  ],
  [
    'a base policy with a list that is none',
    { p: '{"excludes": "x"}' },
    ['-p', '@p'],
    /Base policy is not a valid runtime policy: 'excludes'/,
  ],
  ['a signed base policy', { p: '{"payload": ""}' }, ['-p', '@p'], /it is signed/],
  ['a key that is none', { k: 'x' }, ['--add-ima-signature-verification-key', '@k'], /neither a certificate nor a key/],
  ['a file that is not there', {}, ['-a', '@none'], /Cannot read the allowlist .*there is no such file/],
  ['a root that is not there', {}, ['--rootfs', '@none'], /there is no such file/],
  ['a root that is a file', { r: '' }, ['--rootfs', '@r'], /not a directory/],
  ['a directory without ramdisks', {}, ['--ramdisk-dir', '@.'], /There is no file initr\*/],
  ['a ramdisk that is none', { 'initrd.img': 'hello' }, ['--ramdisk-dir', '@.'], /initrd\.img: Neither a cpio archive/],
  ['an output that cannot be written', {}, ['-o', '@none/x'], /Cannot write/],
] as const) {
  test(`refused with exit code 1 and nothing on stdout: ${what}`, async (t) => {
    const { code, stdout, stderr } = await create(t, files, ...args);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}

test('keys for signatures of files are added to those of the base policy', async (t) => {
  const [old, added] = [1, 2].map(() => generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey);
  assert.ok(old && added);
  const keyring = { pubkeys: [old.export({ format: 'der', type: 'spki' }).toString('base64')], keyids: [0] };
  const base = JSON.stringify({ ...BASE, 'verification-keys': JSON.stringify(keyring) });
  const args = ['-p', '@base', '--add-ima-signature-verification-key', '@key'];
  const made = await create(t, { base, key: added.export({ format: 'pem', type: 'spki' }) }, ...args);
  const { keyids, pubkeys } = JSON.parse(policyOf(made)['verification-keys']);
  assert.deepEqual(keyids, [computedKeyId(old), computedKeyId(added)]);
  assert.equal(pubkeys.length, 2);
});

test('an exclude that matches a keyring is warned of', async (t) => {
  const made = await create(t, { e: '/tmp/\n.*\n' }, '-e', '@e');
  assert.equal(made.code, 0);
  assert.match(made.stderr, /The exclude list matches the keyrings \.ima, .*, but excludes admit no keys/);
});

test('the legacy allowlist has digests and paths, boot_aggregate first', async (t) => {
  const files = { list: LIST, base: JSON.stringify(BASE) };
  const { stdout } = await create(t, files, '-p', '@base', '-m', '@list', '--show-legacy-allowlist');
  assert.equal(
    stdout,
    ['boot_aggregate', '/base', '/opt/demo/hello', '/opt/signed'].map((name) => `${D}  ${name}\n`).join(''),
  );
});

test('a file name cannot bring a line of its own into an allowlist', async (t) => {
  const root = folder(t);
  writeFileSync(path.join(root, `x\n${D}  evil`), '');
  const args = ['create', 'runtime', '--rootfs', root, '--any-owner'];
  const { code, stdout, stderr } = await runTool([...args, '--show-legacy-allowlist']);
  assert.equal(code, 1);
  assert.equal(stdout, '');
  assert.match(stderr, /cannot name a path with a line feed: \/x\\n/);
  assert.equal((await runTool(args)).code, 0);
});

test('a cache that cannot be written takes nothing but time', async (t) => {
  const root = folder(t);
  writeFiles(root, { a: 'one' });
  const args = ['create', 'runtime', '--rootfs', root, '--any-owner', '--cache', path.join(folder(t), 'x'.repeat(253))];
  // The name of the temporary file beside it is too long.
  const made = await runTool(args, {}, () => new Date(Date.now() + 60_000));
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual(policyOf(made).digests, { '/a': [sha256('one')] });
  assert.match(made.stderr, /WARNING - Cannot write the cache .*x: .*name too long/);
});

test('a root file system gives its regular files, without volatile directories and links', async (t) => {
  const root = folder(t);
  writeFiles(root, {
    'usr/bin/a b': 'a',
    'usr/bin/c': 'c',
    'opt/skipped/x': 'x',
    'var/lib/x': 'x',
    'proc/1': '1',
    'usr/var/kept': 'k',
  });
  symlinkSync('c', path.join(root, 'usr/bin/link'));
  execFileSync('mkfifo', [path.join(root, 'usr/bin/pipe')]);
  // Not UTF-8: only as bytes can it be found again.
  writeFileSync(Buffer.concat([Buffer.from(`${root}/usr/bin/caf`), Buffer.of(0xe9)]), 'latin1');
  const run = (...args: readonly string[]) => runTool(['create', 'runtime', '--rootfs', root, '--any-owner', ...args]);
  const all = await run();
  assert.equal(all.code, 0, all.stderr);
  assert.deepEqual(policyOf(all).digests, {
    '/opt/skipped/x': [sha256('x')],
    '/usr/bin/a_b': [sha256('a')],
    '/usr/bin/c': [sha256('c')],
    '/usr/bin/caf\udce9': [sha256('latin1')],
    '/usr/var/kept': [sha256('k')],
  });
  assert.match(all.stderr, /Skipped 2: excluded directories and files \(\/proc, \/var\)/);
  for (const skip of [`${root}/opt/skipped,/usr/var`, `/opt,${root}/usr/var/`]) {
    const some = await run('--skip-path', skip, '--algo', 'sha1');
    assert.deepEqual(Object.keys(policyOf(some).digests), ['/usr/bin/a_b', '/usr/bin/c', '/usr/bin/caf\udce9'], skip);
    assert.equal(policyOf(some).digests['/usr/bin/c']?.[0]?.length, 40);
  }
  assert.match((await run('--skip-path', '/nothing/here')).stderr, /--skip-path \/nothing\/here names nothing below/);
});

test('only files of root are taken unless it is said otherwise', { skip: process.getuid?.() !== 0 }, async (t) => {
  const root = folder(t);
  writeFiles(root, { mine: 'm', theirs: 't' });
  chownSync(path.join(root, 'theirs'), 1000, 1000);
  const made = await runTool(['create', 'runtime', '--rootfs', root]);
  assert.deepEqual(Object.keys(policyOf(made).digests), ['/mine']);
  assert.match(made.stderr, /Skipped 1: files that do not belong to root \(\/theirs\)/);
});

test('files and directories that cannot be read are counted', async (t) => {
  const root = folder(t);
  writeFiles(root, { 'a/x': '', b: '', c: '' });
  chmodSync(root, 0o755);
  chmodSync(path.join(root, 'a'), 0);
  chmodSync(path.join(root, 'b'), 0);
  const args = ['create', 'runtime', '--rootfs', root, '--any-owner'];
  // Root reads all.
  const isRoot = process.getuid?.() === 0;
  if (isRoot) process.seteuid?.(NOBODY);
  try {
    const lenient = await runTool(args);
    assert.deepEqual(Object.keys(policyOf(lenient).digests), ['/c'], lenient.stderr);
    assert.match(lenient.stderr, /directories that cannot be read: permission denied/);
    assert.match(lenient.stderr, /files that cannot be digested: permission denied/);
    assert.equal((await runTool([...args, '--fail-on-skip'])).code, 1);
  } finally {
    if (isRoot) process.seteuid?.(0);
    chmodSync(path.join(root, 'a'), 0o700);
  }
});

test('a file is read once as long as it does not change', async (t) => {
  const root = folder(t);
  const cache = path.join(folder(t), 'cache');
  writeFiles(root, { a: 'one', b: 'two' });
  const args = ['create', 'runtime', '--rootfs', root, '--any-owner', '--cache', cache];
  // The clock of these runs stands still in the past, so that nothing is settled and nothing kept.
  await runTool(args);
  const line = (name: string, hex: string) => {
    const { dev, ino, size, mtimeNs, ctimeNs } = statOf(path.join(root, name));
    return `${dev}:${ino}:sha256 ${size}:${mtimeNs}:${ctimeNs} ${hex}\n`;
  };
  writeFileSync(cache, `keylime-policy cache 1\n${line('a', 'a'.repeat(64))}${line('b', 'b'.repeat(64))}`, {
    mode: 0o600,
  });
  assert.deepEqual(policyOf(await runTool(args)).digests, { '/a': ['a'.repeat(64)], '/b': ['b'.repeat(64)] });
  // Same size and mtime, as somebody would set them who replaces a file; the change time tells.
  const before = statOf(path.join(root, 'b'));
  writeFileSync(path.join(root, 'b'), 'TWO');
  utimesSync(path.join(root, 'b'), Number(before.mtimeNs) / 1e9, Number(before.mtimeNs) / 1e9);
  assert.deepEqual(policyOf(await runTool(args)).digests, { '/a': ['a'.repeat(64)], '/b': [sha256('TWO')] });
  assert.deepEqual(policyOf(await runTool([...args, '--no-cache'])).digests['/a'], [sha256('one')]);
});

const statOf = (file: string) => statSync(file, { bigint: true });

test('the files of initial ramdisks are taken, of all that are in the directory', async (t) => {
  const boot = folder(t);
  writeFiles(boot, {
    'initrd.img-1': Buffer.concat([
      cpioArchive([{ path: 'early', content: 'e' }]),
      gzipSync(cpioArchive([{ path: 'init', content: '1' }])),
    ]),
    'initramfs-2': cpioArchive([{ path: './init', content: '2' }]),
    vmlinuz: 'kernel',
  });
  mkdirSync(path.join(boot, 'initrd.d'));
  const made = await runTool(['create', 'runtime', '--ramdisk-dir', boot]);
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual(policyOf(made).digests, { '/early': [sha256('e')], '/init': [sha256('1'), sha256('2')].sort() });
});

test('a ramdisk is unpacked once, until its file is another', async (t) => {
  const directory = folder(t);
  const image = (content: string) => gzipSync(cpioArchive([{ path: 'init', content }]));
  writeFiles(directory, { 'boot/initrd.img': image('one') });
  const boot = path.join(directory, 'boot');
  const cache = path.join(directory, 'digests');
  // As if the file had not been changed lately.
  const later = () => new Date(Date.now() + 60_000);
  const init = async (...args: readonly string[]) => {
    const made = await runTool(['create', 'runtime', '--ramdisk-dir', boot, '--cache', cache, ...args], {}, later);
    return policyOf(made).digests['/init'];
  };
  assert.deepEqual(await init(), [sha256('one')]);
  const [kept = ''] = readdirSync(`${cache}.packages`);
  const place = path.join(`${cache}.packages`, kept);
  writeFileSync(place, readFileSync(place, 'utf8').replace(sha256('one'), sha256('kept')));
  assert.deepEqual(await init(), [sha256('kept')]);
  assert.deepEqual(await init('--no-cache'), [sha256('one')]);
  writeFiles(directory, { 'boot/initrd.img': image('two') });
  assert.deepEqual(await init(), [sha256('two')]);
});

for (const [name, ...command] of [
  ['gzip', 'gzip'],
  ['zstd', 'zstd', '-q', '-T2'],
  ['xz', 'xz', '--check=crc32'],
  ['lzma', 'xz', '--format=lzma'],
  ['bzip2', 'bzip2'],
  ['lz4', 'lz4', '-lq'],
  ['lzo', 'lzop'],
] as const) {
  const [program = '', ...args] = command;
  test(`a ramdisk made by cpio and ${name} is read`, { skip: skipWithout('cpio', program) }, async (t) => {
    const directory = folder(t);
    writeFiles(directory, { 'tree/init': 'init', 'tree/usr/bin/tool': Buffer.alloc(300_000, 'tool'), 'boot/x': '' });
    const cpio = execFileSync('sh', ['-c', 'find . | cpio -o -H newc'], {
      cwd: path.join(directory, 'tree'),
      stdio: 'pipe',
    });
    const packed = execFileSync(program, ['-c', ...args], { input: cpio, maxBuffer: 1 << 24 });
    writeFileSync(path.join(directory, 'boot/initrd.img'), packed);
    const made = await runTool(['create', 'runtime', '--ramdisk-dir', path.join(directory, 'boot')]);
    assert.equal(made.code, 0, made.stderr);
    assert.deepEqual(policyOf(made).digests, {
      '/init': [sha256('init')],
      '/usr/bin/tool': [sha256(Buffer.alloc(300_000, 'tool'))],
    });
  });
}
