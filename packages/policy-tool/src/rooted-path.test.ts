import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveParents } from './rooted-path.ts';

const LINKS = new Map([
  ['/bin', 'usr/bin'],
  ['/usr/lib64', '../lib'],
  ['/lib', '/usr/lib'],
  ['/a', '/b'],
  ['/b', 'a'],
  ['/up', '../../../etc'],
  ['/usr/bin/sh', 'dash'],
]);
const resolve = (path: string) => resolveParents(path, (link) => LINKS.get(link));

for (const [path, real] of [
  ['/bin/ls', '/usr/bin/ls'],
  ['/usr/lib64/x/y', '/usr/lib/x/y'],
  ['/usr/bin/sh', '/usr/bin/sh'],
  ['/bin', '/bin'],
  ['//usr/./bin/../x/', '/usr/x'],
  ['/up/passwd', '/etc/passwd'],
  ['/a/x', undefined],
  ['/', '/'],
] as const) {
  test(`${path} is ${real ?? 'a circle'}`, () => assert.equal(resolve(path), real));
}
