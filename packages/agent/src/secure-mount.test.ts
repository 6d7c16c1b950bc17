import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { openLog } from '@keylime/service/log';
import { mountOf, openSecureMount, parseMountInfo } from './secure-mount.ts';

const isRoot = process.getuid?.() === 0;
const folder = mkdtempSync(join(tmpdir(), 'keylime-secure-'));
const memory = mkdtempSync('/dev/shm/keylime-secure-');
const mounted: string[] = [];
after(() => {
  for (const path of mounted) execFileSync('umount', [path]);
  for (const path of [folder, memory]) rmSync(path, { recursive: true });
});

let homes = 0;
function newHome(base = folder): string {
  const home = join(base, `home-${homes++}`);
  mkdirSync(home);
  return home;
}

type Options = { readonly isRoot?: boolean; readonly runAs?: string; readonly meanwhile?: () => void };

/** `meanwhile`: after the folder was looked at, and before anything is mounted. */
function open(keylimeDir: string, options: Options = {}) {
  const lines: string[] = [];
  const log = openLog({ name: 'agent', destination: { write: (line) => lines.push(line) } });
  const { isRoot: asRoot = true, runAs = '', meanwhile = () => {} } = options;
  const readMounts = async () => {
    meanwhile();
    return readFileSync('/proc/self/mountinfo', 'utf8');
  };
  return openSecureMount({ keylimeDir, size: '64k', runAs, isRoot: asRoot, log, readMounts }).then((path) => ({
    path,
    lines,
  }));
}

const LINES = `22 28 0:20 / /sys rw,relatime shared:7 - sysfs sysfs rw
28 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda rw
36 28 0:30 / /var/lib/keylime\\040x/secure rw,nosuid master:3 - tmpfs tmpfs rw,size=1024k
37 36 0:31 / /mnt/a rw - tmpfs tmpfs rw
38 36 0:32 / /mnt/a rw - overlay overlay rw
`;

test('mounts are read with their optional fields and escaped names, and the last one at a point is what is seen', () => {
  const mounts = parseMountInfo(LINES);
  assert.deepEqual(mounts[2], { mountPoint: '/var/lib/keylime x/secure', fileSystem: 'tmpfs' });
  assert.deepEqual(mountOf('/var/lib/keylime x/secure', mounts), { ...mounts[2], isMountPoint: true });
  assert.deepEqual(mountOf('/var/lib/keylime x/secure/deeper', mounts), { ...mounts[2], isMountPoint: false });
  assert.deepEqual(mountOf('/mnt/a', mounts)?.fileSystem, 'overlay');
  assert.deepEqual(mountOf('/mnt/ab', mounts), { mountPoint: '/', fileSystem: 'ext4', isMountPoint: false });
  assert.equal(mountOf('/x', []), undefined);
});

test('root mounts memory, for the owner alone, and uses what is mounted the next time', {
  skip: !isRoot && 'needs root',
}, async () => {
  const home = newHome();
  const first = await open(home, { runAs: 'nobody:nogroup' });
  mounted.push(first.path);
  assert.equal(first.path, join(home, 'secure'));
  assert.match(first.lines.join(''), /Directory ".*secure" created\.[\s\S]*Memory is mounted/);
  assert.equal(
    mountOf(first.path, parseMountInfo(execFileSync('cat', ['/proc/self/mountinfo'], { encoding: 'utf8' })))
      ?.fileSystem,
    'tmpfs',
  );
  const { mode, uid } = statSync(first.path);
  assert.equal(mode & 0o777, 0o700);
  assert.notEqual(uid, 0);
  const second = await open(home);
  assert.deepEqual(second.lines, []);
});

test('[MUST] a folder where something else is mounted is refused', { skip: !isRoot && 'needs root' }, async () => {
  const home = newHome();
  mkdirSync(join(home, 'secure'));
  execFileSync('mount', ['--bind', newHome(), join(home, 'secure')]);
  mounted.push(join(home, 'secure'));
  await assert.rejects(open(home), { code: 'secure_mount', message: /already mounted on wrong file system type/ });
});

test('[MUST] without memory an agent that may not mount does not start, and says what to do', async () => {
  await assert.rejects(open(newHome(), { isRoot: false }), { code: 'secure_mount', message: /mount -t tmpfs.*uid=/ });
});

test('a folder that is in memory already needs no mount', async () => {
  const { path, lines } = await open(newHome(memory), { isRoot: false });
  assert.equal(statSync(path).mode & 0o777, 0o700);
  assert.match(lines.join(''), /in memory already.*on=\/dev\/shm/);
});

test('[MUST] a link in the place of the folder is not followed', async () => {
  const home = newHome();
  symlinkSync('/etc', join(home, 'secure'));
  await assert.rejects(open(home), { code: 'secure_mount', message: /is no folder/ });
});

test('[MUST] root mounts over no other folder, and gives none away, if names change while it mounts', {
  skip: !isRoot && 'needs root',
}, async () => {
  const target = newHome();
  const mountedOn = (path: string) => readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
  for (const put of [
    (secure: string) => symlinkSync(target, secure),
    (secure: string) => mkdirSync(secure),
    () => {},
  ] as const) {
    const home = newHome();
    const [secure, moved] = [join(home, 'secure'), join(home, 'moved')];
    const meanwhile = () => {
      renameSync(secure, moved);
      put(secure);
    };
    mounted.push(moved);
    await assert.rejects(open(home, { runAs: 'nobody:nogroup', meanwhile }), { code: 'secure_mount' });
    assert.deepEqual([mountedOn(target), mountedOn(secure)], [false, false]);
    assert.deepEqual([statSync(target).uid, statSync(moved).uid], [0, 0]);
  }
});

test('[MUST] a keylime_dir that became a link while memory is mounted is refused', {
  skip: !isRoot && 'needs root',
}, async () => {
  const [home, target] = [newHome(), newHome()];
  mkdirSync(join(target, 'secure'));
  const meanwhile = () => {
    renameSync(home, `${home}-moved`);
    symlinkSync(target, home);
  };
  mounted.push(join(`${home}-moved`, 'secure'));
  await assert.rejects(open(home, { runAs: 'nobody:nogroup', meanwhile }), {
    code: 'secure_mount',
    message: /was moved or replaced/,
  });
  assert.equal(statSync(join(target, 'secure')).uid, 0);
});

test('a user of run_as that does not exist is named', { skip: !isRoot && 'needs root' }, async () => {
  await assert.rejects(open(newHome(memory), { runAs: 'no-such-user:tss' }), {
    code: 'privileges',
    message: /no-such-user.*set run_as = ""/,
  });
});
