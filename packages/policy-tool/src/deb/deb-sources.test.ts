import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { debArchive } from '../archive/archives.fixture.ts';
import { folder, policyOf, runTool, sha256, skipWithout, writeFiles } from '../tool.fixture.ts';
import { ToolError } from '../tool-error.ts';
import { parseDebSource } from './deb-sources.ts';

const md5 = (content: string) => createHash('md5').update(content).digest('hex');

const create = (...args: readonly string[]) => runTool(['create', 'runtime', ...args]);

test('the forms of --deb are told apart', () => {
  assert.deepEqual(parseDebSource('installed'), { kind: 'installed', root: '/' });
  assert.deepEqual(parseDebSource('installed:/mnt/x'), { kind: 'installed', root: '/mnt/x' });
  assert.deepEqual(parseDebSource('a.deb'), { kind: 'path', path: 'a.deb' });
  assert.deepEqual(parseDebSource('/etc/apt/sources.list'), { kind: 'sources', path: '/etc/apt/sources.list' });
  for (const line of ['deb http://h/debian bookworm main contrib', 'http://h/debian bookworm main contrib']) {
    assert.deepEqual(parseDebSource(line), {
      kind: 'repository',
      repository: { where: 'http://h/debian', suite: 'bookworm', components: ['main', 'contrib'] },
    });
  }
  assert.deepEqual(parseDebSource('file:/srv/repo ./'), {
    kind: 'repository',
    repository: { where: '/srv/repo', suite: './', components: [] },
  });
  assert.deepEqual(parseDebSource('deb [ arch=amd64,arm64 signed-by=/k.gpg lang=en ] http://h/debian bookworm main'), {
    kind: 'repository',
    repository: {
      where: 'http://h/debian',
      suite: 'bookworm',
      components: ['main'],
      architectures: ['amd64', 'arm64'],
      signedBy: { files: ['/k.gpg'] },
    },
  });
  for (const text of [
    '[signed-by=0123ABCD] http://h/debian bookworm main',
    'http://h/debian',
    'http://h/debian bookworm',
    'srv/repo bookworm main',
    '/srv ./ main',
  ]) {
    assert.throws(
      () => parseDebSource(text),
      (error) => error instanceof ToolError && error.code === 'usage',
      text,
    );
  }
});

test('an empty file is allowed, and of no package in particular', async (t) => {
  const directory = folder(t);
  writeFiles(directory, { 'x.deb': debArchive('x', '3', [{ path: 'opt/x', content: 'x' }, { path: 'opt/empty' }]) });
  const made = policyOf(await create('--deb', directory));
  assert.deepEqual(made.digests['/opt/empty'], [sha256('')]);
  assert.deepEqual(made.packages, { [sha256('x')]: 'x 3' });
});

test('packages give the digests of their files, with name and version, also under the names of a merged system', async (t) => {
  const directory = folder(t);
  const deb = debArchive('hello', '1.0-2', [
    { path: './', flag: '5' },
    { path: './bin/hello', content: 'hello' },
    { path: './bin/hi', flag: '1', target: './bin/hello' },
    { path: './bin/ho', flag: '2', target: 'hello' },
    { path: './usr/share/doc/hello/a b', content: 'doc' },
  ]);
  writeFiles(directory, {
    'pool/h/hello.deb': deb,
    'pool/x.deb': debArchive('x', '3', [{ path: 'opt/x', content: 'x' }]),
  });
  const file = await create('--deb', path.join(directory, 'pool/h/hello.deb'));
  assert.equal(file.code, 0, file.stderr);
  const hello = [sha256('hello')];
  const wanted = {
    '/bin/hello': hello,
    '/bin/hi': hello,
    '/usr/bin/hello': hello,
    '/usr/bin/hi': hello,
    '/usr/share/doc/hello/a_b': [sha256('doc')],
  };
  assert.deepEqual({ ...policyOf(file).digests }, wanted);
  assert.deepEqual(policyOf(file).packages, { [sha256('hello')]: 'hello 1.0-2', [sha256('doc')]: 'hello 1.0-2' });
  const both = await create('--deb', directory);
  assert.deepEqual({ ...policyOf(both).digests }, { ...wanted, '/opt/x': [sha256('x')] });
  const one = await create('--deb', directory, '--deb-package', 'x');
  assert.deepEqual({ ...policyOf(one).digests }, { '/opt/x': [sha256('x')] });
  const none = await create('--deb', directory, '--deb-package', 'x,y');
  assert.equal(none.code, 1);
  assert.match(none.stderr, /has no package y\n/);
});

test('a package in a file is read once, until the file is another', async (t) => {
  const directory = folder(t);
  const file = path.join(directory, 'x.deb');
  const deb = (content: string) => debArchive('x', '3', [{ path: 'opt/x', content }]);
  writeFileSync(file, deb('x'));
  const cache = path.join(directory, 'digests');
  const args = ['create', 'runtime', '--deb', file, '--cache', cache] as const;
  // As if the file had not been changed lately.
  const later = () => new Date(Date.now() + 60_000);
  const digests = async () => policyOf(await runTool(args, {}, later)).digests['/opt/x'];
  assert.deepEqual(await digests(), [sha256('x')]);
  // Only what is in the cache can say this.
  const [kept = ''] = readdirSync(`${cache}.packages`);
  const place = path.join(`${cache}.packages`, kept);
  writeFileSync(place, readFileSync(place, 'utf8').replace(sha256('x'), sha256('kept')));
  assert.deepEqual(await digests(), [sha256('kept')]);
  writeFileSync(file, deb('y'));
  assert.deepEqual(await digests(), [sha256('y')]);
});

for (const compression of ['gzip', 'xz', 'zstd', 'none']) {
  test(`a package made by dpkg-deb is read: ${compression}`, { skip: skipWithout('dpkg-deb', 'xz') }, async (t) => {
    const directory = folder(t);
    writeFiles(directory, {
      'tree/DEBIAN/control':
        'Package: real\nVersion: 1:2.0\nArchitecture: all\nMaintainer: x <x@example.org>\nDescription: x\n',
      'tree/usr/bin/real': Buffer.alloc(200_000, 'real'),
      [`tree/usr/share/${'long/'.repeat(40)}name`]: 'long',
    });
    execFileSync('dpkg-deb', [`-Z${compression}`, '--root-owner-group', '-b', 'tree', 'real.deb'], { cwd: directory });
    const made = await create('--deb', path.join(directory, 'real.deb'), '--algo', 'sha1');
    assert.equal(made.code, 0, made.stderr);
    const sha1 = (content: string | Buffer) => createHash('sha1').update(content).digest('hex');
    assert.deepEqual(
      { ...policyOf(made).digests },
      {
        '/usr/bin/real': [sha1(Buffer.alloc(200_000, 'real'))],
        [`/usr/share/${'long/'.repeat(40)}name`]: [sha1('long')],
      },
    );
    assert.equal(policyOf(made).packages?.[sha1('long')], 'real 1:2.0');
  });
}

for (const [what, content, message] of [
  ['no archive', 'hello', /a\.deb: This is no well-formed deb archive/],
  ['an archive without data', debArchive('a', '1', []).subarray(0, -1600), /a\.deb: /],
  ['a package whose control file has no version', debArchive('a', '', []), /no Package or no Version|a\.deb/],
] as const) {
  test(`refused with the name of the file: ${what}`, async (t) => {
    const directory = folder(t);
    writeFiles(directory, { 'a.deb': content });
    const { code, stdout, stderr } = await create('--deb', path.join(directory, 'a.deb'));
    if (what.includes('version')) return assert.equal(code, 0, stderr);
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, message);
  });
}

test('installed packages give what is on disk, if it is what they brought', async (t) => {
  const root = folder(t);
  const info = 'var/lib/dpkg/info';
  const paragraph = (name: string, status: string, more = '') =>
    `Package: ${name}\nStatus: ${status}\nArchitecture: amd64\nVersion: 1.0\n${more}Description: x\n lines\n\n`;
  writeFiles(root, {
    'usr/bin/good': 'good',
    'usr/bin/changed': 'changed by somebody',
    'usr/bin/diverted.dist': 'diverted',
    'usr/lib/nosum': 'nosum',
    'etc/conf': 'changed by the administrator',
    'usr/bin/removed': 'removed',
    'usr/bin/other': 'no package',
    'var/lib/dpkg/status':
      paragraph('one', 'install ok installed', `Conffiles:\n /etc/conf ${md5('conf')}\n`) +
      paragraph('two', 'hold ok installed') +
      paragraph('gone', 'deinstall ok config-files'),
    [`${info}/one.list`]:
      '/.\n/bin\n/usr/bin\n/bin/good\n/usr/bin/changed\n/usr/share/missing\n/etc/conf\n/usr/bin/link\n',
    [`${info}/one.md5sums`]: `${md5('good')}  bin/good\n${md5('changed')}  usr/bin/changed\n${md5('x')}  usr/share/missing\n`,
    [`${info}/two:amd64.list`]: '/usr/bin/diverted\n/usr/lib/nosum\n',
    [`${info}/two:amd64.md5sums`]: `${md5('diverted')}  usr/bin/diverted\n`,
    [`${info}/gone.list`]: '/usr/bin/removed\n',
    'var/lib/dpkg/diversions': '/usr/bin/diverted\n/usr/bin/diverted.dist\nthird\n',
  });
  symlinkSync('usr/bin', path.join(root, 'bin'));
  symlinkSync('good', path.join(root, 'usr/bin/link'));
  const made = await create('--deb', `installed:${root}`);
  assert.equal(made.code, 0, made.stderr);
  assert.deepEqual(
    { ...policyOf(made).digests },
    {
      '/usr/bin/good': [sha256('good')],
      '/etc/conf': [sha256('changed by the administrator')],
      '/usr/bin/diverted.dist': [sha256('diverted')],
      '/usr/lib/nosum': [sha256('nosum')],
    },
  );
  assert.equal(policyOf(made).packages?.[sha256('good')], 'one 1.0');
  assert.equal(policyOf(made).packages?.[sha256('nosum')], 'two 1.0');
  assert.match(
    made.stderr,
    /WARNING - Skipped 1: files that are not as their package brought them \(\/usr\/bin\/changed\)/,
  );
  assert.match(made.stderr, /1 configuration files differ/);
  assert.equal((await create('--deb', `installed:${root}`, '--fail-on-skip')).code, 1);
  const two = await create('--deb', `installed:${root}`, '--deb-package', 'two');
  assert.deepEqual(Object.keys(policyOf(two).digests).sort(), ['/usr/bin/diverted.dist', '/usr/lib/nosum']);
});

test('a root without dpkg is refused', async (t) => {
  const { code, stderr } = await create('--deb', `installed:${folder(t)}`);
  assert.equal(code, 1);
  assert.match(stderr, /There is no .*var\/lib\/dpkg\/status/);
});

test('the packages of this machine agree with what dpkg says of them', {
  skip: skipWithout('dpkg-query'),
}, async () => {
  // Any package that is always there will do.
  const made = await create('--deb', 'installed', '--deb-package', 'dpkg');
  assert.equal(made.code, 0, made.stderr);
  const hex = sha256(readFileSync('/usr/bin/dpkg'));
  assert.deepEqual(policyOf(made).digests['/usr/bin/dpkg'], [hex]);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a format of dpkg-query
  const version = execFileSync('dpkg-query', ['-W', '-f', '${Version}', 'dpkg'], { encoding: 'utf8' });
  assert.equal(policyOf(made).packages?.[hex], `dpkg ${version}`);
});

test('what is no package in a directory is not looked at, and a directory without packages is refused', async (t) => {
  const directory = folder(t);
  mkdirSync(path.join(directory, 'sub'));
  writeFileSync(path.join(directory, 'sub/README'), '');
  const { code, stderr } = await create('--deb', directory);
  assert.equal(code, 1);
  assert.match(stderr, /There is no \.deb file in/);
});
