import assert from 'node:assert/strict';
import { test } from 'node:test';
import { foreignMounts, parseMountinfo } from './mounts.ts';

const MOUNTS = parseMountinfo(`22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:5 / /proc rw shared:2 - proc proc rw
24 22 254:16 / /home rw - ext4 /dev/vdb rw
25 22 0:30 / /srv/my\\040share rw shared:3 master:1 - nfs4 server:/share rw
26 22 0:31 / /mnt/image ro - squashfs /dev/loop0 ro
27 26 0:32 / /mnt/image/run rw - tmpfs tmpfs rw
28 26 0:33 / /mnt/image/usr ro - squashfs /dev/loop1 ro
no line of a mount
`);

test('other types of file systems are foreign, another disk of the same type is not', () => {
  assert.deepEqual(foreignMounts(MOUNTS, '/'), [
    '/proc',
    '/srv/my share',
    '/mnt/image',
    '/mnt/image/run',
    '/mnt/image/usr',
  ]);
});

test('what counts is the file system that the root lies on, and what lies below it', () => {
  assert.deepEqual(foreignMounts(MOUNTS, '/mnt/image'), ['/mnt/image/run']);
  assert.deepEqual(foreignMounts(MOUNTS, '/srv'), ['/srv/my share']);
  assert.deepEqual(foreignMounts(MOUNTS, '/mnt/im'), []);
});
