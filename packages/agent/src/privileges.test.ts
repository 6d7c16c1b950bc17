import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { type Credentials, dropPrivileges } from './privileges.ts';

const isRoot = process.getuid?.() === 0;

/** A system on which every change succeeds and is recorded. */
function recorder(overrides: Partial<Credentials> = {}) {
  const calls: string[] = [];
  let uid = 0;
  const credentials: Credentials = {
    getuid: () => uid,
    geteuid: () => uid,
    getgid: () => 7,
    getegid: () => 7,
    initgroups: (user, group) => void calls.push(`initgroups ${user} ${group}`),
    setgid: (group) => void calls.push(`setgid ${group}`),
    setuid: (user) => {
      calls.push(`setuid ${user}`);
      if (user === 0) throw Object.assign(new Error('not permitted'), { code: 'EPERM' });
      uid = 1000;
    },
    userName: () => 'keylime',
    ...overrides,
  };
  return { calls, credentials };
}

test('groups are set first, then the group, then the user, then root is tried in vain', () => {
  const { calls, credentials } = recorder();
  dropPrivileges('keylime:tss', credentials);
  assert.deepEqual(calls, ['initgroups keylime tss', 'setgid tss', 'setuid keylime', 'setuid 0']);
});

test('a process that could become root again does not go on', () => {
  const { credentials } = recorder({ setuid: () => undefined, getuid: () => 1000, geteuid: () => 1000 });
  assert.throws(() => dropPrivileges('keylime:tss', credentials), { code: 'privileges' });
});

test('a process that is another user than asked for does not go on', () => {
  const other = recorder({ userName: () => 'somebody' });
  assert.throws(() => dropPrivileges('keylime:tss', other.credentials), { code: 'privileges' });
  const half = recorder({ geteuid: () => 0 });
  assert.throws(() => dropPrivileges('keylime:tss', half.credentials), { code: 'privileges' });
  const still = recorder({ setuid: () => undefined });
  assert.throws(() => dropPrivileges('keylime:tss', still.credentials), { code: 'privileges' });
});

test('a user that does not exist is named, and how to stay root', { skip: !isRoot && 'needs root' }, () => {
  const script = `
    import { dropPrivileges, processCredentials } from ${JSON.stringify(import.meta.resolve('./privileges.ts'))};
    try { dropPrivileges('no-such-user:tss', processCredentials()); } catch (error) { console.log(error.code, error.message); }
    console.log(process.getuid());`;
  const output = run(script);
  assert.match(output, /^privileges .*no-such-user.*run_as = "" to stay root/);
  assert.match(output, /\n0\n$/);
});

test('root becomes nobody for good', { skip: !isRoot && 'needs root' }, () => {
  const script = `
    import { dropPrivileges, processCredentials } from ${JSON.stringify(import.meta.resolve('./privileges.ts'))};
    dropPrivileges('nobody:nogroup', processCredentials());
    let again = 'possible';
    try { process.setuid(0); } catch (error) { again = error.code; }
    console.log(process.getuid() !== 0, process.geteuid() !== 0, process.getgroups().includes(0), again);`;
  assert.equal(run(script), 'true true false EPERM\n');
});

function run(script: string): string {
  const cwd = fileURLToPath(new URL('..', import.meta.url));
  return execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', cwd });
}
